// A stand-in for the CUDA driver: one device (or as many as are asked for, which share the host's memory), everything done at once (but for what a graph captures, which
// is done at its launches), kernels run by the scheduler.
// Memory is the host's, with guard zones around each allocation and all ones in it.
//
// What can go wrong on other machines goes wrong on demand, by environment variables:
// ALCYON_EMULATOR_DRIVER (its version), ALCYON_EMULATOR_DEVICES (how many there are) and
// ALCYON_EMULATOR_LAUNCHES (the device is lost at the launch after so many).
#include <dlfcn.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "scheduler.hpp"

#define API extern "C" __attribute__((visibility("default"))) int

// Of CUresult, what is returned here.
enum { OK = 0, INVALID = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, BAD_IMAGE = 200, ILLEGAL_STATE = 401, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700, LAUNCH_FAILED = 719, NOT_WHILE_CAPTURING = 900 };

namespace {

constexpr size_t GUARD = 256, CAPACITY = 256u << 20;

struct Module {
    void* object;
    std::string path;
};

std::recursive_mutex lock_;
std::map<uint64_t, size_t> allocations_; // Address and bytes.
size_t allocated_ = 0;
thread_local void* current_ = nullptr;
bool lost_ = false;

// What a stream was given while it was captured, in order.
using Work = std::function<int()>;
struct Graph {
    std::vector<Work> work;
};
Graph* captured_ = nullptr;
void* capturing_ = nullptr; // The stream.

// Done at once, or, on a stream that is being captured, whenever the graph is launched.
int queue(void* stream, Work work) {
    if (!capturing_ || stream != capturing_) return work();
    captured_->work.push_back(std::move(work));
    return OK;
}

int wish(const char* variable, int otherwise) {
    const char* text = getenv(variable);
    return text ? atoi(text) : otherwise;
}

Scheduler& scheduler() {
    static Scheduler* one = new Scheduler; // Never destroyed: kernels may run while statics go.
    return *one;
}

bool guards_hold(uint64_t at, size_t bytes) {
    return Guard::holds((unsigned char*)at - GUARD, GUARD) && Guard::holds((unsigned char*)at + bytes, GUARD);
}

void lay_guards(uint64_t at, size_t bytes) {
    Guard::lay((unsigned char*)at - GUARD, GUARD);
    Guard::lay((unsigned char*)at + bytes, GUARD);
}

// Whether a range lies in one allocation.
bool inside(uint64_t at, size_t bytes) {
    auto after = allocations_.upper_bound(at);
    if (after == allocations_.begin()) return false;
    auto [start, size] = *--after;
    return at + bytes <= start + size;
}

int copy(void* to, const void* from, size_t bytes, uint64_t device) {
    std::lock_guard<std::recursive_mutex> guard(lock_);
    if (!inside(device, bytes)) return INVALID;
    memmove(to, from, bytes);
    return OK;
}

const char* name_of(int code) {
    switch (code) {
        case OK: return "CUDA_SUCCESS";
        case INVALID: return "CUDA_ERROR_INVALID_VALUE";
        case OUT_OF_MEMORY: return "CUDA_ERROR_OUT_OF_MEMORY";
        case NO_DEVICE: return "CUDA_ERROR_NO_DEVICE";
        case BAD_IMAGE: return "CUDA_ERROR_INVALID_IMAGE";
        case ILLEGAL_STATE: return "CUDA_ERROR_ILLEGAL_STATE";
        case NOT_FOUND: return "CUDA_ERROR_NOT_FOUND";
        case ILLEGAL_ADDRESS: return "CUDA_ERROR_ILLEGAL_ADDRESS";
        case LAUNCH_FAILED: return "CUDA_ERROR_LAUNCH_FAILED";
        case NOT_WHILE_CAPTURING: return "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED";
        default: return "CUDA_ERROR_UNKNOWN";
    }
}

} // namespace

API cuInit(unsigned) { return OK; }
API cuDriverGetVersion(int* version) {
    *version = wish("ALCYON_EMULATOR_DRIVER", 13000);
    return OK;
}
API cuDeviceGetCount(int* count) {
    *count = wish("ALCYON_EMULATOR_DEVICES", 1);
    return OK;
}
API cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return ordinal >= 0 && ordinal < wish("ALCYON_EMULATOR_DEVICES", 1) ? OK : NO_DEVICE;
}
API cuDeviceGetName(char* name, int length, int) {
    snprintf(name, (size_t)length, "emulated");
    return OK;
}
API cuDeviceTotalMem_v2(size_t* bytes, int) {
    *bytes = CAPACITY;
    return OK;
}
API cuDeviceGetAttribute(int* value, int attribute, int) {
    *value = attribute == 75 ? 9 : 0; // Compute capability 9.0; no memory pools.
    return OK;
}
API cuDevicePrimaryCtxRetain(void** context, int device) {
    static int each[8];
    if (device < 0 || device >= 8) return NO_DEVICE;
    *context = &each[device];
    return OK;
}
API cuDevicePrimaryCtxRelease_v2(int) { return OK; }
API cuCtxSetCurrent(void* context) {
    current_ = context;
    return OK;
}
API cuCtxGetCurrent(void** context) {
    *context = current_;
    return OK;
}
// A lost device answers everything so. cuBLAS asks, too.
#define ALIVE if (lost_) return ILLEGAL_ADDRESS
extern "C" __attribute__((visibility("default"))) bool emulator_is_lost() { return lost_; }
// Whether a range lies in one allocation. cuDNN asks.
extern "C" __attribute__((visibility("default"))) bool emulator_holds(uint64_t at, size_t bytes) {
    std::lock_guard<std::recursive_mutex> guard(lock_);
    return inside(at, bytes);
}

API cuCtxSynchronize() {
    ALIVE;
    return OK;
}
API cuStreamCreate(void** stream, unsigned) {
    *stream = new int;
    return OK;
}
API cuStreamDestroy_v2(void* stream) {
    delete (int*)stream;
    return OK;
}
#define UNCAPTURED if (capturing_ && stream == capturing_) return NOT_WHILE_CAPTURING
API cuStreamSynchronize(void* stream) {
    ALIVE;
    UNCAPTURED;
    return OK;
}

API cuStreamBeginCapture_v2(void* stream, int) {
    ALIVE;
    if (!stream) return NOT_WHILE_CAPTURING;
    if (capturing_) return ILLEGAL_STATE;
    capturing_ = stream;
    captured_ = new Graph;
    return OK;
}
API cuStreamEndCapture(void* stream, Graph** graph) {
    ALIVE;
    if (!capturing_ || stream != capturing_) return ILLEGAL_STATE;
    *graph = captured_;
    capturing_ = nullptr;
    captured_ = nullptr;
    return OK;
}
API cuGraphInstantiateWithFlags(Graph** ready, const Graph* graph, unsigned long long) {
    *ready = new Graph(*graph);
    return OK;
}
API cuGraphUpload(const Graph*, void*) { return OK; }
API cuGraphLaunch(const Graph* ready, void* stream) {
    ALIVE;
    UNCAPTURED;
    for (auto& work : ready->work)
        if (int code = work()) return code;
    return OK;
}
API cuGraphExecDestroy(Graph* ready) {
    delete ready;
    return OK;
}
API cuGraphDestroy(Graph* graph) {
    delete graph;
    return OK;
}
// What the stand-ins of other libraries queue.
extern "C" __attribute__((visibility("default"))) int emulator_queue(void* stream, int (*run)(void*),
                                                                     void (*drop)(void*), void* data) {
    std::shared_ptr<void> kept(data, drop);
    return queue(stream, [=] { return run(kept.get()); });
}

// An event is the time of the host at which it was recorded: what was queued before has been done.
API cuEventCreate(void** event, unsigned) {
    *event = new std::chrono::steady_clock::time_point;
    return OK;
}
API cuEventDestroy_v2(void* event) {
    delete (std::chrono::steady_clock::time_point*)event;
    return OK;
}
API cuEventRecord(void* event, void* stream) {
    ALIVE;
    UNCAPTURED; // The driver would make it a part of the graph, and its time never comes.
    *(std::chrono::steady_clock::time_point*)event = std::chrono::steady_clock::now();
    return OK;
}
API cuEventSynchronize(void*) {
    ALIVE;
    return OK;
}
API cuEventElapsedTime_v2(float* milliseconds, void* begin, void* end) {
    using Point = std::chrono::steady_clock::time_point;
    *milliseconds = std::chrono::duration<float, std::milli>(*(Point*)end - *(Point*)begin).count();
    return OK;
}
API cuGetExportTable(const void**, const void*) { return NOT_FOUND; }
API cuGetErrorName(int code, const char** name) {
    *name = name_of(code);
    return OK;
}
API cuGetErrorString(int code, const char** text) { return cuGetErrorName(code, text); }

API cuMemGetInfo_v2(size_t* free, size_t* total) {
    std::lock_guard<std::recursive_mutex> guard(lock_);
    *free = CAPACITY - allocated_;
    *total = CAPACITY;
    return OK;
}
API cuMemAlloc_v2(uint64_t* pointer, size_t bytes) {
    ALIVE;
    std::lock_guard<std::recursive_mutex> guard(lock_);
    if (bytes == 0) return INVALID;
    if (bytes > CAPACITY - allocated_) return OUT_OF_MEMORY;
    // Aligned as the driver promises: libraries count on it.
    auto* block = (unsigned char*)aligned_alloc(GUARD, (bytes + 3 * GUARD - 1) / GUARD * GUARD);
    if (!block) return OUT_OF_MEMORY;
    memset(block + GUARD, 0xff, bytes);
    *pointer = (uint64_t)(block + GUARD);
    lay_guards(*pointer, bytes);
    allocations_[*pointer] = bytes;
    allocated_ += bytes;
    return OK;
}
API cuMemFree_v2(uint64_t pointer) {
    ALIVE;
    std::lock_guard<std::recursive_mutex> guard(lock_);
    auto found = allocations_.find(pointer);
    if (found == allocations_.end()) return INVALID;
    Guard::lift((unsigned char*)pointer - GUARD, GUARD);
    Guard::lift((unsigned char*)pointer + found->second, GUARD);
    allocated_ -= found->second;
    allocations_.erase(found);
    free((unsigned char*)pointer - GUARD);
    return OK;
}
API cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void* stream) {
    ALIVE;
    UNCAPTURED; // The host's memory may be other memory by the time of the launch.
    return copy((void*)to, from, bytes, to);
}
API cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
    ALIVE;
    UNCAPTURED;
    return copy(to, (const void*)from, bytes, from);
}
API cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void* stream) {
    ALIVE;
    return queue(stream, [=] {
        std::lock_guard<std::recursive_mutex> guard(lock_);
        return inside(from, bytes) ? copy((void*)to, (const void*)from, bytes, to) : INVALID;
    });
}
API cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void* stream) {
    ALIVE;
    return queue(stream, [=] {
        std::lock_guard<std::recursive_mutex> guard(lock_);
        if (!inside(to, bytes)) return (int)INVALID;
        memset((void*)to, value, bytes);
        return (int)OK;
    });
}

// An image is what the emulated compiler makes: a line of magic, then the path of a shared object.
API cuModuleLoadData(void** module, const void* image) {
    ALIVE;
    static const char magic[] = "EMULATED KERNELS\n";
    if (strncmp((const char*)image, magic, sizeof magic - 1) != 0) return BAD_IMAGE;
    const std::string path = (const char*)image + sizeof magic - 1;
    void* object = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!object) return BAD_IMAGE;
    auto bind = (void (*)(Shim*))dlsym(object, "shim_bind");
    if (!bind) return BAD_IMAGE;
    bind(&scheduler().shim);
    *module = new Module{object, path};
    return OK;
}
API cuModuleGetFunction(void** function, void* module, const char* name) {
    *function = dlsym(((Module*)module)->object, (std::string("shim_kernel_") + name).c_str());
    return *function ? OK : NOT_FOUND;
}
API cuModuleUnload(void* module) {
    delete (Module*)module;
    return OK;
}

namespace {

struct Launch {
    void* function;
    unsigned gx, gy, gz, bx, by, bz, shared;
};

int run(const Launch& l, void** arguments) {
    static int launches = 0;
    const int last = wish("ALCYON_EMULATOR_LAUNCHES", -1);
    if (last >= 0 && launches++ >= last) {
        lost_ = true; // Kernels run later than they are launched: this call still succeeds.
        return OK;
    }
    std::lock_guard<std::recursive_mutex> guard(lock_);
    std::string fault = scheduler().run((void (*)(void**))l.function, arguments, {l.gx, l.gy, l.gz},
                                        {l.bx, l.by, l.bz}, l.shared);
    for (auto& [at, bytes] : allocations_)
        if (fault.empty() && !guards_hold(at, bytes)) {
            fault = "a write outside an allocation of " + std::to_string(bytes) + " bytes";
            lay_guards(at, bytes);
        }
    if (fault.empty()) return OK;
    Dl_info info{};
    dladdr(l.function, &info);
    fprintf(stderr, "emulated CUDA: %s: %s\n", info.dli_sname ? info.dli_sname : "a kernel", fault.c_str());
    return LAUNCH_FAILED;
}

// The sizes of a kernel's arguments, which its object knows; 0 after the last.
const unsigned* sizes_of(void* function) {
    Dl_info info{};
    if (!dladdr(function, &info) || !info.dli_sname) return nullptr;
    const std::string name = info.dli_sname + sizeof "shim_kernel_" - 1;
    auto sizes = (const unsigned* (*)())dlsym(dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD), ("shim_sizes_" + name).c_str());
    return sizes ? sizes() : nullptr;
}

} // namespace

API cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void* stream, void** arguments, void**) {
    ALIVE;
    const Launch launch{function, gx, gy, gz, bx, by, bz, shared};
    if (!capturing_ || stream != capturing_) return run(launch, arguments);
    const unsigned* sizes = sizes_of(function);
    if (!sizes) return NOT_FOUND;
    std::vector<std::vector<char>> kept;
    for (size_t i = 0; sizes[i]; i++) kept.emplace_back((char*)arguments[i], (char*)arguments[i] + sizes[i]);
    return queue(stream, [=] {
        std::vector<void*> addresses;
        for (auto& argument : kept) addresses.push_back((void*)argument.data());
        return run(launch, addresses.data());
    });
}
