// Runs one block of CUDA threads after another: each thread is a fiber with a stack of its own. A
// thread runs until it ends or waits. Whoever waits is woken when all are there whom it waits for; if
// nobody can go on, that is a fault with a report.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "guard.hpp"
#include "shim_types.hpp"

// AddressSanitizer wants to know of every switch between stacks.
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#define FIBER_LEAVES(keeps, bottom, size) __sanitizer_start_switch_fiber(keeps, bottom, size)
#define FIBER_ARRIVES(kept, bottom, size) __sanitizer_finish_switch_fiber(kept, bottom, size)
#else
#define FIBER_LEAVES(keeps, bottom, size) (void)(keeps), (void)(bottom), (void)(size)
#define FIBER_ARRIVES(kept, bottom, size) (void)(kept), (void)(bottom), (void)(size)
#endif

// Saves the callee's registers and stack pointer in *from, and goes on at `to`.
extern "C" void fiber_switch(void** from, void* to);
asm(R"(
.text
.globl fiber_switch
.hidden fiber_switch
.type fiber_switch, @function
fiber_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size fiber_switch, .-fiber_switch
)");

class Scheduler {
  public:
    Shim shim{};

    Scheduler() {
        self() = this;
        shim.barrier = [](int line) { self()->wait(State::Barrier, 0, line); };
        shim.exchange = [](unsigned mask, unsigned long long value, int line) {
            return self()->exchange(mask, value, line);
        };
    }

    // Runs a grid. Returns "" or what went wrong.
    std::string run(void (*kernel)(void**), void** arguments, dim3 grid, dim3 block, size_t shared) {
        const char* wish = getenv("ALCYON_EMULATOR_ORDER");
        order_ = wish ? wish[0] : 'f';
        kernel_ = kernel;
        arguments_ = arguments;
        shim.block_size = block;
        shim.grid_size = grid;
        const size_t threads = (size_t)block.x * block.y * block.z;
        if (threads == 0 || threads > 1024) return "a block must have 1 to 1024 threads";
        if (shared > 227 * 1024) return "a block has at most 227 KiB of dynamic shared memory";
        if (grid.y > 65535 || grid.z > 65535) return "a grid has at most 65535 blocks in y and z";
        Guard::lift(shared_.data(), shared_.size());
        shared_.assign(shared + 2 * GUARD, 0xff);
        shim.dynamic_shared = shared_.data() + GUARD;
        Guard::lay(shared_.data(), GUARD);
        Guard::lay(shim.dynamic_shared + shared, GUARD);
        for (unsigned z = 0; z < grid.z; z++)
            for (unsigned y = 0; y < grid.y; y++)
                for (unsigned x = 0; x < grid.x; x++) {
                    shim.block = {x, y, z};
                    memset(shim.dynamic_shared, 0xff, shared);
                    std::string fault = run_block(threads);
                    if (fault.empty() && !guards_hold(shared))
                        fault = "a write outside the block's dynamic shared memory";
                    if (!fault.empty()) return fault;
                }
        return "";
    }

  private:
    static constexpr size_t STACK = 64 * 1024, GUARD = 1024;
    enum class State { Ready, Barrier, Exchange, Done };
    struct Thread {
        State state = State::Ready;
        unsigned mask = 0;
        int line = 0;
        unsigned round = 0;
        void* stack_pointer = nullptr;
        std::unique_ptr<unsigned char[]> stack;
        void* sanitizer = nullptr;
    };

    static Scheduler*& self() {
        static Scheduler* one = nullptr;
        return one;
    }

    bool guards_hold(size_t shared) const {
        return Guard::holds(shared_.data(), GUARD) && Guard::holds(shared_.data() + GUARD + shared, GUARD);
    }

    std::string run_block(size_t count) {
        threads_.clear();
        threads_.resize(count);
        values_.assign((count + 31) / 32 * 2 * 32, 0);
        const size_t warps = (count + 31) / 32;
        for (;;) {
            for (size_t w : ordered(warps)) {
                const size_t first = w * 32, lanes = std::min<size_t>(32, count - first);
                do {
                    for (size_t lane : ordered(lanes))
                        if (threads_[first + lane].state == State::Ready) resume(first + lane);
                } while (wake_warp(first, lanes));
            }
            size_t waiting = 0, done = 0;
            int line = -1;
            bool same = true;
            for (auto& t : threads_) {
                done += t.state == State::Done;
                if (t.state != State::Barrier) continue;
                waiting++;
                same = same && (line == -1 || line == t.line);
                line = t.line;
            }
            if (done == count) return "";
            if (waiting + done < count) return "deadlock: " + report();
            if (!same) return "threads wait at different barriers: " + report();
            for (auto& t : threads_)
                if (t.state == State::Barrier) t.state = State::Ready;
        }
    }

    // Wakes the lanes of a warp whose exchange is complete. Whether there were any.
    bool wake_warp(size_t first, size_t lanes) {
        bool woken = false;
        for (size_t lane = 0; lane < lanes; lane++) {
            Thread& t = threads_[first + lane];
            if (t.state != State::Exchange) continue;
            bool all = true;
            for (size_t other = 0; other < lanes; other++) {
                const Thread& o = threads_[first + other];
                if (t.mask >> other & 1)
                    all = all && o.state == State::Exchange && o.line == t.line && o.mask == t.mask;
            }
            if (!all) continue;
            const unsigned mask = t.mask;
            for (size_t other = 0; other < lanes; other++)
                if (mask >> other & 1) threads_[first + other].state = State::Ready;
            woken = true;
        }
        return woken;
    }

    // Lanes in the order asked for: a missing barrier shows when it changes.
    std::vector<size_t> ordered(size_t n) {
        std::vector<size_t> order(n);
        std::iota(order.begin(), order.end(), 0);
        if (order_ == 'r') std::reverse(order.begin(), order.end());
        if (order_ == 's')
            for (size_t i = n; i > 1; i--) {
                seed_ = seed_ * 6364136223846793005u + 1442695040888963407u;
                std::swap(order[i - 1], order[(seed_ >> 33) % i]);
            }
        return order;
    }

    void resume(size_t i) {
        Thread& t = threads_[i];
        running_ = i;
        const unsigned x = shim.block_size.x, y = shim.block_size.y;
        shim.thread = {(unsigned)(i % x), (unsigned)(i / x % y), (unsigned)(i / x / y)};
        if (!t.stack) start(t);
        void* sanitizer = nullptr;
        FIBER_LEAVES(&sanitizer, t.stack.get(), STACK);
        fiber_switch(&main_, t.stack_pointer);
        FIBER_ARRIVES(sanitizer, nullptr, nullptr);
        if (t.state == State::Done) stacks_.push_back(std::move(t.stack));
    }

    void start(Thread& t) {
        if (stacks_.empty()) stacks_.emplace_back(new unsigned char[STACK]);
        t.stack = std::move(stacks_.back());
        stacks_.pop_back();
        Guard::lift(t.stack.get(), STACK); // What the last thread has left there is nobody's.
        uintptr_t top = (uintptr_t)(t.stack.get() + STACK) & ~(uintptr_t)15;
        void** at = (void**)top;
        *--at = nullptr; // Where `entry` would return to, which it does not; keeps the alignment.
        *--at = (void*)entry;
        for (int saved = 0; saved < 6; saved++) *--at = nullptr;
        t.stack_pointer = at;
    }

    static void entry() {
        Scheduler* s = self();
        FIBER_ARRIVES(nullptr, &s->main_bottom_, &s->main_size_);
        s->kernel_(s->arguments_);
        s->threads_[s->running_].state = State::Done;
        s->leave();
    }

    void leave() {
        Thread& t = threads_[running_];
        FIBER_LEAVES(t.state == State::Done ? nullptr : &t.sanitizer, main_bottom_, main_size_);
        fiber_switch(&t.stack_pointer, main_);
        FIBER_ARRIVES(t.sanitizer, &main_bottom_, &main_size_);
    }

    void wait(State state, unsigned mask, int line) {
        Thread& t = threads_[running_];
        t.state = state;
        t.mask = mask;
        t.line = line;
        leave();
    }

    // Two halves of the buffer, used in turn: a lane may be at the next exchange before another has
    // read what the last one brought.
    const unsigned long long* exchange(unsigned mask, unsigned long long value, int line) {
        const size_t i = running_;
        unsigned long long* half = &values_[(i / 32 * 2 + threads_[i].round % 2) * 32];
        threads_[i].round++;
        half[i % 32] = value;
        wait(State::Exchange, mask, line);
        return half;
    }

    std::string report() const {
        static const char* names[] = {"ready", "at barrier", "at warp operation", "done"};
        std::string text;
        for (size_t i = 0; i < threads_.size(); i++) {
            const Thread& t = threads_[i];
            if (i && t.state == threads_[i - 1].state && t.line == threads_[i - 1].line) continue;
            text += "from thread " + std::to_string(i) + " on " + names[(int)t.state] + " line " +
                    std::to_string(t.line) + "; ";
        }
        return text;
    }

    char order_ = 'f'; // forward, reverse or shuffled
    void (*kernel_)(void**) = nullptr;
    void** arguments_ = nullptr;
    void* main_ = nullptr;
    const void* main_bottom_ = nullptr;
    size_t main_size_ = 0;
    size_t running_ = 0;
    uint64_t seed_ = 1;
    std::vector<Thread> threads_;
    std::vector<unsigned char> shared_;
    std::vector<unsigned long long> values_;
    std::vector<std::unique_ptr<unsigned char[]>> stacks_;
};
