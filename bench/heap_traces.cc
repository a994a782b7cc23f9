// SPDX-License-Identifier: MIT
//
// Figures of the heap: what real programs ask of malloc, replayed from tests/data/traces, whose
// README.md tells the format.
#include "heap_bench.h"

#include <cstring>
#include <zlib.h>

namespace heap_bench
{

namespace
{

constexpr char MAGIC[] = "MMTRACE1";
constexpr const char *PROGRAMS[] = {"python3", "sqlite3", "gcc", "git", "perl", "xz"};
constexpr uint64_t MAX_EVENTS = 10000000;

enum Op : uint8_t { ALLOC, ALLOC_ALIGNED, REALLOC, FREE, ALLOC_ZEROED, NR_OPS };

struct Event {
    uint8_t op;
    uint8_t align_log2;
    uint32_t id;
    uint64_t size;
};

struct Trace {
    uint64_t nr_ids = 0;
    std::vector<Event> events;
};

// Reads one trace, and believes nothing of it.
class Reader
{
  public:
    explicit Reader(const std::string &path) : file_(gzopen(path.c_str(), "rb"))
    {
    }
    ~Reader()
    {
        if (file_ != nullptr) {
            gzclose(file_);
        }
    }
    Reader(const Reader &) = delete;
    Reader &operator=(const Reader &) = delete;

    bool is_open() const
    {
        return file_ != nullptr;
    }
    bool read(Trace *out)
    {
        char magic[sizeof MAGIC - 1];
        uint64_t nr_events = 0;

        if (gzread(file_, magic, sizeof magic) != static_cast<int>(sizeof magic) ||
            memcmp(magic, MAGIC, sizeof magic) != 0 || !number(&out->nr_ids) ||
            !number(&nr_events) || out->nr_ids > nr_events || nr_events > MAX_EVENTS) {
            return false;
        }
        std::vector<bool> is_live(out->nr_ids);

        for (uint64_t i = 0; i < nr_events; i++) {
            Event event{};

            if (!next(&event) || event.id >= out->nr_ids) {
                return false;
            }
            const bool begins = event.op != REALLOC && event.op != FREE;

            if (is_live[event.id] == begins) {
                return false;
            }
            is_live[event.id] = event.op != FREE;
            out->events.push_back(event);
        }
        return true;
    }

  private:
    bool number(uint64_t *out)
    {
        *out = 0;
        for (unsigned shift = 0; shift < 63; shift += 7) {
            const int byte = gzgetc(file_);

            if (byte < 0) {
                return false;
            }
            *out |= static_cast<uint64_t>(byte & 0x7f) << shift;
            if (byte < 0x80) {
                return true;
            }
        }
        return false;
    }
    bool next(Event *out)
    {
        uint64_t head;
        uint64_t align_log2 = 0;

        if (!number(&head) || head % 8 >= NR_OPS || head / 8 > UINT32_MAX) {
            return false;
        }
        out->op = static_cast<uint8_t>(head % 8);
        out->id = static_cast<uint32_t>(head / 8);
        if (out->op == ALLOC_ALIGNED && (!number(&align_log2) || align_log2 > 21)) {
            return false;
        }
        out->align_log2 = static_cast<uint8_t>(align_log2);
        return out->op == FREE || (number(&out->size) && out->size < RANGE_BYTES &&
                                   (out->op != REALLOC || out->size > 0));
    }

    gzFile file_;
};

// The whole trace, and then what it left is freed. An item is an event.
struct Replay {
    std::string program;

    template <class Heap> void operator()(benchmark::State &state, Heap &heap) const
    {
        Reader reader(std::string(MM_TRACES) + "/" + program + ".trc");
        Trace trace;

        if (!reader.is_open()) {
            state.SkipWithError(("not supported: no trace of " + program).c_str());
            return;
        }
        if (!reader.read(&trace)) {
            state.SkipWithError(("the trace of " + program + " is broken").c_str());
            return;
        }
        std::vector<void *> objects(trace.nr_ids);

        for (auto _ : state) {
            for (const Event &event : trace.events) {
                void *&object = objects[event.id];

                switch (event.op) {
                case ALLOC:
                    object = heap.alloc(event.size);
                    break;
                case ALLOC_ALIGNED:
                    object = heap.alloc_aligned(size_t{1} << event.align_log2, event.size);
                    break;
                case REALLOC:
                    object = heap.realloc(object, event.size);
                    break;
                case FREE:
                    heap.free(object);
                    object = nullptr;
                    continue;
                default:
                    object = heap.alloc_zeroed(event.size);
                    break;
                }
                if (object == nullptr) {
                    abort();
                }
                *static_cast<volatile char *>(object) = 1;
            }
            for (void *&object : objects) {
                heap.free(object);
                object = nullptr;
            }
        }
        state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(trace.events.size()));
    }
};

} // namespace

void register_traces()
{
    for (const char *program : PROGRAMS) {
        register_with_all(std::string("trace_") + program, Replay{program});
    }
}

} // namespace heap_bench
