// SPDX-License-Identifier: MIT
//
// Figures of spaces: what a region costs among many, what a fault costs beside the zeroing or the
// copying that it cannot avoid, what clone and unmap cost a page.
#include "space_bench.h"

extern "C" {
#include "core/space/region.h"
}

#include <algorithm>
#include <atomic>
#include <vector>

namespace space_bench
{

bool without_bytes;

}

namespace
{

using namespace space_bench;

void nothing()
{
}

// ---- regions ------------------------------------------------------------------------------------

// Map and unmap an untouched page in the gaps between so many regions.
void map_unmap(benchmark::State &state, uint64_t nr_regions)
{
    World world;
    uint64_t at = 0;

    for (uint64_t i = 0; i < nr_regions; i++) {
        world.map(Base + 4 * i * Page, 1, 1);
    }
    for (auto _ : state) {
        for (uint64_t i = 0; i < Batch; i++) {
            at = (at + 7919) % nr_regions;
            world.map(Base + (4 * at + 2) * Page, 1, 2);
            world.unmap(Base + (4 * at + 2) * Page, 1);
        }
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(Batch));
}
BENCHMARK_CAPTURE(map_unmap, 100, 100)->Name("space_map_unmap_100");
BENCHMARK_CAPTURE(map_unmap, 100k, 100000)->Name("space_map_unmap_100k");

// Nodes of a tree of its own.
class Regions
{
  public:
    explicit Regions(uint64_t nr) : nodes(nr), buckets(nr)
    {
        mmi_regions_init(&tree, mm_vrange(mm_vaddr(0), UINT64_C(1) << 47));
        for (mmi_region &node : nodes) {
            mmi_region_push(&free_nodes, &node);
        }
    }

    void link(uint64_t at)
    {
        mmi_region *node = mmi_region_pop(&free_nodes);

        if (tree.nr_spare == 0) {
            mmi_regions_push_bucket(&tree, &buckets[nr_buckets++]);
        }
        node->start = at;
        node->len = Page;
        mmi_regions_link(&tree, mmi_regions_spot(&tree, at), node);
    }

    void unlink(uint64_t at)
    {
        mmi_region *node = mmi_regions_find(&tree, at);

        mmi_regions_unlink(&tree, node);
        mmi_region_push(&free_nodes, node);
    }

    double bytes_each() const
    {
        return static_cast<double>(tree.nr * sizeof(mmi_region) +
                                   tree.nr_buckets * sizeof(mmi_bucket)) /
               static_cast<double>(tree.nr);
    }

  private:
    mmi_regions tree{};
    std::vector<mmi_region> nodes;
    std::vector<mmi_bucket> buckets;
    mmi_region_list free_nodes{};
    size_t nr_buckets = 0;
};

// What one of many regions costs with its part of a bucket: of those that came in order, in no order,
// and in order, with others mapped and unmapped in each gap since. The figure is the largest.
void space_region(benchmark::State &state)
{
    const uint64_t nr = 100000;
    Regions in_order(nr + 2);
    Regions in_no_order(nr);
    double edited = 0;

    for (auto _ : state) {
    }
    for (uint64_t i = 0; i < nr; i++) {
        in_order.link(4 * i * Page);
        in_no_order.link(i * 61803 % nr * 4 * Page);
    }
    state.counters["in_order"] = in_order.bytes_each();
    state.counters["in_no_order"] = in_no_order.bytes_each();
    for (uint64_t i = 0; i < 4 * nr; i++) {
        uint64_t at = (4 * (i * 7919 % nr) + 2) * Page;

        in_order.link(at);
        in_order.link(at + Page);
        in_order.unlink(at);
        in_order.unlink(at + Page);
        if (i % 1000 == 0) {
            edited = std::max(edited, in_order.bytes_each());
        }
    }
    state.counters["edited"] = edited;
    state.counters["bytes"] =
        std::max({state.counters["in_order"].value, state.counters["in_no_order"].value, edited});
}
BENCHMARK(space_region);

// ---- faults -------------------------------------------------------------------------------------

void finish(bool ordered)
{
    benchmark::ClobberMemory();
    if (ordered) {
        std::atomic_thread_fence(std::memory_order_seq_cst);
    }
}

// First writes to the pages of one table; the table is made by the first, those above it are there.
void space_fault_zero(benchmark::State &state)
{
    World world;

    world.map_written(Base + Batch * Page, 1, 1);
    measure(
        state, Batch, [&] { world.map(Base, Batch, 0); },
        [&] { return world.fault_all(Base, Batch); }, [&] { world.unmap(Base, Batch); });
}
BENCHMARK(space_fault_zero)->UseManualTime();

// The same without the zeroing: what is in the frames is seen by nobody. The table is there.
void fault_bare(benchmark::State &state, bool live)
{
    World world(live);

    world.map_written(Base + Page * (Batch - 1), 1, 1);
    measure(
        state, Batch - 1,
        [&] {
            world.map(Base, Batch - 1, 0);
            without_bytes = true;
        },
        [&] { return world.fault_all(Base, Batch - 1); },
        [&] {
            without_bytes = false;
            world.unmap(Base, Batch - 1);
        });
}
BENCHMARK_CAPTURE(fault_bare, live, true)->Name("space_fault_bare")->UseManualTime();
BENCHMARK_CAPTURE(fault_bare, unused, false)->Name("space_fault_bare_unused")->UseManualTime();

// Faults of pages that are there: all of the call but the frame and the leaf.
void space_fault_minor(benchmark::State &state)
{
    World world;

    world.map_written(Base, Batch, 0);
    measure(
        state, Batch, nothing, [&] { return world.fault_all(Base, Batch); }, nothing);
}
BENCHMARK(space_fault_minor)->UseManualTime();

// Frames as a space gets them: the allocator, after long use of it, goes through all of its memory, so each
// turn writes to frames that are in the caches only if all of it is.
class Frames
{
  public:
    explicit Frames(World &world) : frames_(24 * Batch)
    {
        for (auto &frame : frames_) {
            frame = world.take();
        }
    }
    void *const *now() const
    {
        return &frames_[at_];
    }
    void *const *before() const
    {
        return &frames_[(at_ + frames_.size() - Batch) % frames_.size()];
    }
    void advance()
    {
        at_ = (at_ + Batch) % frames_.size();
    }

  private:
    std::vector<void *> frames_;
    size_t at_ = 0;
};

// The zeroing that the fault does: the same function, as many frames of the same memory. `ordered`:
// each is there for all to see before the next begins, as a fault's is: it ends with a lock.
void zero(benchmark::State &state, bool ordered)
{
    World world;
    Frames frames(world);

    measure(
        state, Batch, nothing,
        [&] {
            for (uint64_t i = 0; i < Batch; i++) {
                memset(frames.now()[i], 0, Page);
                finish(ordered);
            }
            return true;
        },
        [&] { frames.advance(); });
}
BENCHMARK_CAPTURE(zero, floor, false)->Name("space_zero_floor")->UseManualTime();
BENCHMARK_CAPTURE(zero, ordered, true)->Name("space_zero_ordered")->UseManualTime();

// Writes after a clone: each makes a copy. The frames that were shared go with the child, and are
// copied to the next time. `bare`: without the copying.
void fault_cow(benchmark::State &state, bool live, bool bare)
{
    World world(live);
    mm_space *child = nullptr;

    world.map_written(Base, Batch, 0);
    measure(
        state, Batch,
        [&] {
            check(mm_space_clone(world.space, &child));
            without_bytes = bare;
        },
        [&] { return world.fault_all(Base, Batch); },
        [&] {
            without_bytes = false;
            mm_space_put(child);
            world.written(Base, Batch);
        });
}
BENCHMARK_CAPTURE(fault_cow, live, true, false)->Name("space_fault_cow")->UseManualTime();
BENCHMARK_CAPTURE(fault_cow, bare, true, true)->Name("space_fault_cow_bare")->UseManualTime();
BENCHMARK_CAPTURE(fault_cow, unused, false, true)
    ->Name("space_fault_cow_bare_unused")
    ->UseManualTime();

// Writes when the child has gone: the last sharer takes the frame.
void space_fault_reuse(benchmark::State &state)
{
    World world;
    mm_space *child = nullptr;

    world.map_written(Base, Batch, 0);
    measure(
        state, Batch,
        [&] {
            check(mm_space_clone(world.space, &child));
            mm_space_put(child);
        },
        [&] { return world.fault_all(Base, Batch); }, [&] { world.written(Base, Batch); });
}
BENCHMARK(space_fault_reuse)->UseManualTime();

// The copying that the fault does: the same function, as many frames of the same memory, and what was copied
// to is copied from the next time.
void copy(benchmark::State &state, bool ordered)
{
    World world;
    Frames frames(world);

    measure(
        state, Batch, nothing,
        [&] {
            for (uint64_t i = 0; i < Batch; i++) {
                memcpy(frames.now()[i], frames.before()[i], Page);
                finish(ordered);
            }
            return true;
        },
        [&] { frames.advance(); });
}
BENCHMARK_CAPTURE(copy, floor, false)->Name("space_copy_floor")->UseManualTime();
BENCHMARK_CAPTURE(copy, ordered, true)->Name("space_copy_ordered")->UseManualTime();

// ---- clone --------------------------------------------------------------------------------------

// The parent's call only. `again`: the pages are shared already, and read-only.
void clone(benchmark::State &state, bool live, bool again)
{
    constexpr uint64_t NrPages = 4096;
    World world(live);
    mm_space *other = nullptr;
    mm_space *child = nullptr;

    world.map_written(Base, NrPages, 0);
    if (again) {
        check(mm_space_clone(world.space, &other));
    }
    measure(
        state, NrPages, nothing,
        [&] {
            check(mm_space_clone(world.space, &child));
            return true;
        },
        [&] {
            mm_space_put(child);
            if (!again) {
                world.make_writable(Base, NrPages);
                world.written(Base, NrPages);
            }
        });
    if (again) {
        mm_space_put(other);
    }
}
BENCHMARK_CAPTURE(clone, live, true, false)->Name("space_fork_page")->UseManualTime();
BENCHMARK_CAPTURE(clone, again, true, true)->Name("space_fork_page_again")->UseManualTime();
BENCHMARK_CAPTURE(clone, unused, false, false)->Name("space_fork_page_unused")->UseManualTime();

// The last put of a child that has written nothing, a page.
void space_exit_page(benchmark::State &state)
{
    constexpr uint64_t NrPages = 4096;
    World world;
    mm_space *child = nullptr;

    world.map_written(Base, NrPages, 0);
    measure(
        state, NrPages, [&] { check(mm_space_clone(world.space, &child)); },
        [&] { return mm_space_put(child); }, nothing);
}
BENCHMARK(space_exit_page)->UseManualTime();

// ---- unmap --------------------------------------------------------------------------------------

// All of so many written pages at once, that are in regions of so many.
void unmap(benchmark::State &state, bool live, uint64_t nr_pages, uint64_t of_region)
{
    World world(live);

    world.map_written(Base - 512 * Batch * Page, 1, 1); // so that the space is never empty
    measure(
        state, nr_pages,
        [&] {
            for (uint64_t i = 0; i < nr_pages; i += of_region) {
                world.map_written(Base + i * Page, of_region, i);
            }
        },
        [&] {
            world.unmap(Base, nr_pages);
            return true;
        },
        nothing);
}
BENCHMARK_CAPTURE(unmap, live, true, Batch, Batch)->Name("space_munmap_page")->UseManualTime();
BENCHMARK_CAPTURE(unmap, unused, false, Batch, Batch)
    ->Name("space_munmap_page_unused")
    ->UseManualTime();
BENCHMARK_CAPTURE(unmap, 4096, true, 8 * Batch, 8 * Batch)
    ->Name("space_munmap_page_of_4096")
    ->UseManualTime();
BENCHMARK_CAPTURE(unmap, regions16, true, Batch, 16)
    ->Name("space_munmap_page_regions_of_16")
    ->UseManualTime();

} // namespace

extern "C" {

void *__real_memset(void *to, int byte, size_t len);
void *__real_memcpy(void *to, const void *from, size_t len);
void *__wrap_memset(void *to, int byte, size_t len);
void *__wrap_memcpy(void *to, const void *from, size_t len);

void *__wrap_memset(void *to, int byte, size_t len)
{
    return without_bytes && len == Page ? to : __real_memset(to, byte, len);
}

void *__wrap_memcpy(void *to, const void *from, size_t len)
{
    return without_bytes && len == Page ? to : __real_memcpy(to, from, len);
}

} // extern "C"
