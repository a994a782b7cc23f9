// SPDX-License-Identifier: MIT
// Calls the example of docs/numa.md with an SRAT of one range, and no SLIT.
int main(void)
{
    static unsigned char srat[48 + 40] = {'S', 'R', 'A', 'T', 48 + 40, 0, 0, 0, 3};
    unsigned char sum = 0;

    srat[48] = 1; /* memory */
    srat[49] = 40;
    srat[50] = 7;      /* its domain */
    srat[48 + 18] = 1; /* bytes: 0x10000 */
    srat[48 + 28] = 1; /* enabled */
    for (unsigned i = 0; i < sizeof(srat); i++) {
        sum = (unsigned char)(sum + srat[i]);
    }
    srat[9] = (unsigned char)(0 - sum);
    return read_topology(srat, sizeof(srat), NULL, 0) != MM_OK || bytes_of(0) != 0x10000 ||
           bytes_of(MM_NUMA_NO_NODE) != (UINT64_C(1) << 52) - 0x10000 ||
           mm_numa_node_of_domain(&numa, 7) != 0;
}
