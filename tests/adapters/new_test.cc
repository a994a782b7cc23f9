// SPDX-License-Identifier: MIT
//
// examples/adapters/new.cc: every form of new and delete, containers, and the handler.
#include "adapter_test.h"

#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

extern mm_heap *new_heap;

namespace
{

// Before the constructors of static objects, as a kernel does.
__attribute__((constructor(101))) void start()
{
    new_heap = test_heap();
}

std::string early(1000, 'x'); // a static object that allocates

struct alignas(256) Aligned {
    char bytes[300];
};

struct Counted {
    static int alive;
    Counted()
    {
        alive++;
    }
    ~Counted()
    {
        alive--;
    }
    char bytes[40];
};
int Counted::alive;

void test_forms()
{
    const std::align_val_t align{64};
    Counted *one = new Counted;
    Counted *many = new Counted[10];
    Aligned *aligned = new Aligned;
    Aligned *row = new (std::nothrow) Aligned[7];

    CHECK(is_ours(one, sizeof(Counted), 16) && Counted::alive == 11);
    CHECK(is_ours(aligned, sizeof(Aligned), 256) && is_ours(row, 7 * sizeof(Aligned), 256));
    delete one;
    delete[] many;
    delete aligned;
    delete[] row;
    CHECK(Counted::alive == 0);

    ::operator delete(::operator new(100), std::size_t(100));
    ::operator delete(::operator new(0), std::size_t(0));
    ::operator delete(::operator new(100, std::nothrow), std::nothrow);
    ::operator delete(::operator new(100, align), std::size_t(100), align);
    ::operator delete(::operator new(100, align), align);
    ::operator delete(::operator new(100, align, std::nothrow), align, std::nothrow);
    ::operator delete[](::operator new[](100), std::size_t(100));
    ::operator delete[](::operator new[](100, std::nothrow), std::nothrow);
    ::operator delete[](::operator new[](100, align), std::size_t(100), align);
    ::operator delete[](::operator new[](100, align), align);
    ::operator delete[](::operator new[](100, align, std::nothrow), align, std::nothrow);
    ::operator delete(nullptr);
    ::operator delete(nullptr, std::size_t(8));
}

void test_containers()
{
    std::map<int, std::string> map;
    std::vector<std::unique_ptr<Aligned>> vector;

    for (int i = 0; i < 2000; i++) {
        map[i * 7919 % 2003] = std::string(std::size_t(i % 90), char('a' + i % 26));
        vector.push_back(std::make_unique<Aligned>());
    }
    CHECK(map.size() == 2000 && is_ours(vector.data(), 2000 * sizeof(void *), 16));
    CHECK(is_ours(early.data(), 1000, 16));
}

void *hoard;
int nr_asked;

// Gives back what is left; then takes itself away.
void give_back()
{
    nr_asked++;
    if (hoard == nullptr) {
        std::set_new_handler(nullptr);
    }
    ::operator delete(hoard);
    hoard = nullptr;
}

void give_up()
{
    throw std::bad_alloc();
}

bool throws(std::size_t size)
{
    try {
        ::operator delete(::operator new(size));
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

void test_out_of_memory()
{
    const std::size_t size = TEST_HEAP_LEN * 3 / 5;

    hoard = ::operator new(size);
    CHECK(throws(size) && ::operator new(size, std::nothrow) == nullptr);
    std::set_new_handler(give_back);
    ::operator delete(::operator new(size)); // once the hoard is gone
    CHECK(nr_asked == 1 && hoard == nullptr);
    CHECK(throws(TEST_HEAP_LEN) && nr_asked == 2);
    std::set_new_handler(give_up);
    CHECK(throws(TEST_HEAP_LEN) && ::operator new(TEST_HEAP_LEN, std::nothrow) == nullptr);
    std::set_new_handler(nullptr);
}

const unsigned nr_forms = 8;

MADE_HERE void *made_here(unsigned form)
{
    const std::align_val_t align{64};
    void *object = nullptr;

    switch (form) {
    case 0:
        object = ::operator new(100);
        break;
    case 1:
        object = ::operator new(100, std::nothrow);
        break;
    case 2:
        object = ::operator new(100, align);
        break;
    case 3:
        object = ::operator new(100, align, std::nothrow);
        break;
    case 4:
        object = ::operator new[](100);
        break;
    case 5:
        object = ::operator new[](100, std::nothrow);
        break;
    case 6:
        object = ::operator new[](100, align);
        break;
    default:
        object = ::operator new[](100, align, std::nothrow);
        break;
    }
    __asm__ volatile("" : "+r"(object));
    return object;
}

const unsigned nr_ends = 6;

FREED_HERE void freed_here(unsigned end, void *object)
{
    const std::align_val_t align{64};

    switch (end) {
    case 0:
        ::operator delete(object);
        break;
    case 1:
        ::operator delete(object, std::size_t(100));
        break;
    case 2:
        ::operator delete(object, align);
        break;
    case 3:
        ::operator delete(object, std::size_t(100), align);
        break;
    case 4:
        ::operator delete[](object);
        break;
    default:
        ::operator delete[](object, std::size_t(100), align);
        break;
    }
    __asm__ volatile("");
}

// The heap names who called the operator, whatever the form.
void test_callers()
{
    static told said;
    mm_heap *before = new_heap;
    mm_heap *heap = recording_heap(&said);

    new_heap = heap;
    for (unsigned form = 0; form < nr_forms; form++) {
        void *object = made_here(form);

        CHECK(LIES_IN(only_caller(heap), made_here));
        ::operator delete(object);
    }
    for (unsigned end = 0; end < nr_ends; end++) {
        void *object = ::operator new (100, std::align_val_t{64});

        said.nr = 0;
        freed_here(end, object);
        CHECK(said.nr == 0);
        freed_here(end, object);
        CHECK(said.nr == 1 && said.kind == MM_HEAP_DOUBLE_FREE);
        CHECK(LIES_IN(said.freed_by, freed_here));
        CHECK(LIES_IN(said.caller, freed_here));
    }
    new_heap = before;
    CHECK(mm_heap_check(heap) == MM_OK && mm_heap_destroy(heap) == MM_OK);
}

} // namespace

int main()
{
    const uint64_t before = nr_objects();

    CHECK(before >= 1); // of `early`
    test_forms();
    test_containers();
    test_out_of_memory();
    test_callers();
    CHECK(nr_objects() == before && mm_heap_check(new_heap) == MM_OK);
    return 0;
}
