// SPDX-License-Identifier: MIT
#include "heap_bench.h"
namespace heap_bench
{
void register_magazines()
{
}
} // namespace heap_bench
