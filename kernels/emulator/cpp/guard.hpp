// Zones around memory in which nobody has any business. They hold NaNs, each its own by its address,
// so that neither a write nor a copy of another zone goes unnoticed. Under AddressSanitizer they are
// poisoned, so that a read does not, either: it ends the process.
#pragma once
#include <cstddef>
#include <cstdint>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

class Guard {
  public:
#ifdef __SANITIZE_ADDRESS__
    static void lay(unsigned char* from, size_t bytes) { ASAN_POISON_MEMORY_REGION(from, bytes); }
    static void lift(unsigned char* from, size_t bytes) { ASAN_UNPOISON_MEMORY_REGION(from, bytes); }
    static bool holds(const unsigned char*, size_t) { return true; }
#else
    static void lay(unsigned char* from, size_t bytes) {
        for (size_t i = 0; i < bytes; i++) from[i] = expected(from + i);
    }
    static void lift(unsigned char*, size_t) {}
    static bool holds(const unsigned char* from, size_t bytes) {
        for (size_t i = 0; i < bytes; i++)
            if (from[i] != expected(from + i)) return false;
        return true;
    }
#endif

  private:
    static unsigned char expected(const unsigned char* at) {
        const uint64_t address = (uint64_t)at;
        const uint32_t word = 0xfff80001u | ((uint32_t)((address >> 2) * 2654435761u) >> 13);
        return (unsigned char)(word >> 8 * (address & 3));
    }
};
