// A stand-in for NVRTC: hands the text, behind the shim, to the machine's C++ compiler. What it
// returns as machine code is the path of a shared object. Objects are kept by the hash of the text.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>

#define API extern "C" __attribute__((visibility("default"))) int

enum { OK = 0, COMPILATION = 6 };

namespace {

struct Unit {
    std::string name, source, log, image;
};

// A launcher for every kernel of the text.
std::string launchers(const std::string& source) {
    const std::string head = "extern \"C\" __global__ void ";
    std::string all;
    for (size_t at = source.find(head); at != std::string::npos; at = source.find(head, at + 1)) {
        const size_t from = at + head.size(), to = source.find('(', from);
        if (to != std::string::npos) all += "SHIM_EXPORT(" + source.substr(from, to - from) + ")\n";
    }
    return all;
}

std::string contents(const std::string& path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

} // namespace

API nvrtcVersion(int* major, int* minor) {
    *major = 13;
    *minor = 99; // No real one: what is cached by version is kept apart.
    return OK;
}
API nvrtcGetNumSupportedArchs(int* count) {
    *count = 2;
    return OK;
}
API nvrtcGetSupportedArchs(int* all) {
    all[0] = 80;
    all[1] = 90;
    return OK;
}
API nvrtcCreateProgram(Unit** unit, const char* source, const char* name, int, const char**, const char**) {
    *unit = new Unit{name ? name : "kernel", source, "", ""};
    return OK;
}
API nvrtcDestroyProgram(Unit** unit) {
    delete *unit;
    *unit = nullptr;
    return OK;
}
API nvrtcCompileProgram(Unit* unit, int, const char**) {
    const std::string text = unit->source + "\n" + launchers(unit->source);
    char stem[64];
    snprintf(stem, sizeof stem, "/objects/%016zx", std::hash<std::string>()(text));
    const std::string object = std::string(FOLDER) + stem + ".so";
    if (access(object.c_str(), R_OK) != 0) {
        // Under a name of this process first: others may compile the same.
        const std::string own = std::string(FOLDER) + stem + "-" + std::to_string(getpid());
        std::ofstream(own + ".cpp") << text;
        const std::string command = std::string(COMPILER) +
            " -std=c++17 -O1 -g0 -shared -fPIC -ffp-contract=off -fvisibility=hidden -w " SANITIZE " -include '" +
            FOLDER + "/shim.hpp' -o '" + own + ".so' '" + own + ".cpp' 2> '" + own + ".log'";
        const int status = std::system(command.c_str());
        unit->log = contents(own + ".log");
        std::remove((own + ".log").c_str());
        std::remove((own + ".cpp").c_str());
        if (status != 0) return COMPILATION;
        std::rename((own + ".so").c_str(), object.c_str());
    }
    unit->image = "EMULATED KERNELS\n" + object;
    return OK;
}
API nvrtcGetCUBINSize(Unit* unit, size_t* size) {
    *size = unit->image.size() + 1;
    return OK;
}
API nvrtcGetCUBIN(Unit* unit, char* to) {
    memcpy(to, unit->image.c_str(), unit->image.size() + 1);
    return OK;
}
API nvrtcGetPTXSize(Unit* unit, size_t* size) { return nvrtcGetCUBINSize(unit, size); }
API nvrtcGetPTX(Unit* unit, char* to) { return nvrtcGetCUBIN(unit, to); }
API nvrtcGetProgramLogSize(Unit* unit, size_t* size) {
    *size = unit->log.size() + 1;
    return OK;
}
API nvrtcGetProgramLog(Unit* unit, char* to) {
    memcpy(to, unit->log.c_str(), unit->log.size() + 1);
    return OK;
}
