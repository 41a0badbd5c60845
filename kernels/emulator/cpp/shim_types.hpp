// What the emulated driver and the kernels that it runs agree on. Includes nothing.
#pragma once

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

// What the emulated driver shares with a kernel: where the running thread is, and how to wait.
struct Shim {
    dim3 thread, block, block_size, grid_size;
    unsigned char* dynamic_shared;
    void (*barrier)(int line);
    // Waits for the lanes of `mask`; returns what each lane of the warp brought.
    const unsigned long long* (*exchange)(unsigned mask, unsigned long long value, int line);
};
