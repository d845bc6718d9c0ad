/* A libnvidia-ml.so.1 whose GPUs are described by the text file named in FAKE_NVML_STATE, read again on each call.
 *
 *   driver CODE          every call returns CODE (0 works, 9 driver not loaded, 18 version mismatch)
 *   reload N             a new N ends the session: calls return 1 (uninitialised) until the next nvmlInit
 *   delay_ms N           each question about a GPU takes N milliseconds
 *   fail FUNCTION CODE   before the first gpu: for all; below a gpu: for that one
 *   gpu UUID             one GPU, in order of index; what follows is about it:
 *   name TEXT | total BYTES | used BYTES | util PERCENT | power MW | limit MW | temp C
 *   proc PID BYTES compute|graphics
 *   lost                 questions return 15, and go on to do so after the line is gone until the next nvmlInit
 *
 * As with the real one, a handle is void after nvmlShutdown. FAKE_NVML_LOG names a file that gets one line a call:
 * thread id, function (and the word "delayed" before each delay). Build with -DNO_V3 and -DNO_V2 for a driver that lacks the newer symbols.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define GPUS 16
#define PROCS 32
#define FAILS 16

typedef struct { char function[64]; int code; } Fail;
typedef struct { unsigned pid; unsigned long long used; int graphics; } Proc;
typedef struct {
    char uuid[96], name[96];
    unsigned long long total, used;
    unsigned util, power, limit, temp;
    int lost, procs, fails;
    Proc proc[PROCS];
    Fail fail[FAILS];
} Gpu;
typedef struct { int driver, reload, delay_ms, fails, gpus; Fail fail[FAILS]; Gpu gpu[GPUS]; } State;
typedef struct { int session; char uuid[96]; } Handle;

static State state;
static Handle handles[256];
static int handle_count, session, session_reload = -1, session_open;
static char lost_uuid[GPUS][96];
static int lost_count;

static void note(const char *function) {
    const char *path = getenv("FAKE_NVML_LOG");
    FILE *log = path ? fopen(path, "a") : NULL;
    if (!log) return;
    fprintf(log, "%ld %s\n", (long)syscall(SYS_gettid), function);
    fclose(log);
}

static void read_state(void) {
    char line[256], word[64];
    Gpu *gpu = NULL;
    const char *path = getenv("FAKE_NVML_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    memset(&state, 0, sizeof state);
    if (!file) { state.driver = 9; return; }
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%63s", word) != 1) continue;
        if (!strcmp(word, "driver")) sscanf(line, "driver %d", &state.driver);
        else if (!strcmp(word, "reload")) sscanf(line, "reload %d", &state.reload);
        else if (!strcmp(word, "delay_ms")) sscanf(line, "delay_ms %d", &state.delay_ms);
        else if (!strcmp(word, "fail")) {
            Fail *fail = gpu ? &gpu->fail[gpu->fails++] : &state.fail[state.fails++];
            sscanf(line, "fail %63s %d", fail->function, &fail->code);
        } else if (!strcmp(word, "gpu") && state.gpus < GPUS) {
            gpu = &state.gpu[state.gpus++];
            sscanf(line, "gpu %95s", gpu->uuid);
        } else if (!gpu) continue;
        else if (!strcmp(word, "name")) sscanf(line, "name %95[^\n]", gpu->name);
        else if (!strcmp(word, "total")) sscanf(line, "total %llu", &gpu->total);
        else if (!strcmp(word, "used")) sscanf(line, "used %llu", &gpu->used);
        else if (!strcmp(word, "util")) sscanf(line, "util %u", &gpu->util);
        else if (!strcmp(word, "power")) sscanf(line, "power %u", &gpu->power);
        else if (!strcmp(word, "limit")) sscanf(line, "limit %u", &gpu->limit);
        else if (!strcmp(word, "temp")) sscanf(line, "temp %u", &gpu->temp);
        else if (!strcmp(word, "lost")) gpu->lost = 1;
        else if (!strcmp(word, "proc") && gpu->procs < PROCS) {
            Proc *proc = &gpu->proc[gpu->procs++];
            char kind[16] = "";
            sscanf(line, "proc %u %llu %15s", &proc->pid, &proc->used, kind);
            proc->graphics = !strcmp(kind, "graphics");
        }
    }
    fclose(file);
}

static int failing(const Fail *fail, int count, const char *function) {
    for (int i = 0; i < count; i++)
        if (!strcmp(fail[i].function, function)) return fail[i].code;
    return 0;
}

/* What every call but nvmlInit begins with: 0, or the code to return. */
static int enter(const char *function) {
    note(function);
    read_state();
    if (state.driver) return state.driver;
    if (!session_open || session_reload != state.reload) return 1;
    return failing(state.fail, state.fails, function);
}

static int sticky_lost(const Gpu *gpu) {
    for (int i = 0; i < lost_count; i++)
        if (!strcmp(lost_uuid[i], gpu->uuid)) return 1;
    if (!gpu->lost) return 0;
    strcpy(lost_uuid[lost_count++], gpu->uuid);
    return 1;
}

/* The GPU behind a handle, for the function that asks. */
static int ask(const char *function, void *device, Gpu **found) {
    int code = enter(function);
    Handle *handle = device;
    if (code) return code;
    if (state.delay_ms) {
        note("delayed");
        struct timespec pause = {state.delay_ms / 1000, (state.delay_ms % 1000) * 1000000L};
        nanosleep(&pause, NULL);
    }
    if (handle->session != session) return 2;
    for (int i = 0; i < state.gpus; i++) {
        Gpu *gpu = &state.gpu[i];
        if (strcmp(gpu->uuid, handle->uuid)) continue;
        *found = gpu;
        if (sticky_lost(gpu) && strcmp(function, "nvmlDeviceGetUUID")) return 15;
        return failing(gpu->fail, gpu->fails, function);
    }
    return 15;
}

#define ASK(device) Gpu *gpu = NULL; int code = ask(__func__, device, &gpu); if (code) return code

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    note(__func__);
    read_state();
    if (state.driver) return state.driver;
    session++;
    session_open = 1;
    session_reload = state.reload;
    handle_count = lost_count = 0;
    return 0;
}

int nvmlShutdown(void) {
    int code = enter(__func__);
    session_open = 0;
    session++;
    return code;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    int code = enter(__func__);
    if (!code) *count = (unsigned)state.gpus;
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    int code = enter(__func__);
    if (code) return code;
    if (index >= (unsigned)state.gpus) return 2;
    for (int i = 0; i < handle_count; i++)
        if (!strcmp(handles[i].uuid, state.gpu[index].uuid)) { *device = &handles[i]; return 0; }
    if (handle_count == 256) return 20;
    handles[handle_count].session = session;
    strcpy(handles[handle_count].uuid, state.gpu[index].uuid);
    *device = &handles[handle_count++];
    return 0;
}

static int text(char *to, unsigned size, const char *from) {
    if (strlen(from) >= size) return 7;
    strcpy(to, from);
    return 0;
}

int nvmlDeviceGetUUID(void *device, char *to, unsigned size) { ASK(device); return text(to, size, gpu->uuid); }
int nvmlDeviceGetName(void *device, char *to, unsigned size) { ASK(device); return text(to, size, gpu->name); }

typedef struct { unsigned long long total, free, used; } MemoryV1;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;

int nvmlDeviceGetMemoryInfo(void *device, MemoryV1 *memory) {
    ASK(device);
    memory->total = gpu->total;
    memory->used = gpu->used + 1048576; /* version 1 counts what the driver reserves as used */
    memory->free = gpu->total - memory->used;
    return 0;
}

#ifndef NO_V2
int nvmlDeviceGetMemoryInfo_v2(void *device, MemoryV2 *memory) {
    ASK(device);
    if (memory->version != (sizeof *memory | (2u << 24))) return 25;
    memory->total = gpu->total;
    memory->reserved = 1048576;
    memory->used = gpu->used;
    memory->free = gpu->total - gpu->used - memory->reserved;
    return 0;
}
#endif

int nvmlDeviceGetUtilizationRates(void *device, unsigned *rates) {
    ASK(device);
    rates[0] = gpu->util;
    rates[1] = 0;
    return 0;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *value) { ASK(device); *value = gpu->power; return 0; }
int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *value) { ASK(device); *value = gpu->limit; return 0; }
#ifndef NO_V2
int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *value) { ASK(device); *value = gpu->limit; return 0; }
#endif
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *value) {
    ASK(device);
    if (sensor != 0) return 2;
    *value = gpu->temp;
    return 0;
}

typedef struct { unsigned pid; unsigned long long used; } ProcessV1;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } ProcessV2;

static int processes(const Gpu *gpu, int graphics, unsigned *count, void *to, size_t size) {
    unsigned n = 0, room = *count;
    for (int i = 0; i < gpu->procs; i++) {
        if (gpu->proc[i].graphics != graphics) continue;
        if (to && n < room) {
            ProcessV1 *slot = (ProcessV1 *)((char *)to + n * size);
            slot->pid = gpu->proc[i].pid;
            slot->used = gpu->proc[i].used;
        }
        n++;
    }
    *count = n;
    return n > room || (n && !to) ? 7 : 0;
}

#define RUNNING(function, graphics, type) \
    int function(void *device, unsigned *count, void *to) { \
        ASK(device); \
        return processes(gpu, graphics, count, to, sizeof(type)); \
    }

RUNNING(nvmlDeviceGetComputeRunningProcesses, 0, ProcessV1)
RUNNING(nvmlDeviceGetGraphicsRunningProcesses, 1, ProcessV1)
#ifndef NO_V2
RUNNING(nvmlDeviceGetComputeRunningProcesses_v2, 0, ProcessV2)
RUNNING(nvmlDeviceGetGraphicsRunningProcesses_v2, 1, ProcessV2)
#endif
#if !defined(NO_V2) && !defined(NO_V3)
RUNNING(nvmlDeviceGetComputeRunningProcesses_v3, 0, ProcessV2)
RUNNING(nvmlDeviceGetGraphicsRunningProcesses_v3, 1, ProcessV2)
#endif

int nvmlSystemGetProcessName(unsigned pid, char *to, unsigned size) {
    int code = enter(__func__);
    char path[128];
    if (code) return code;
    if (pid >= 900000) return 6;
    snprintf(path, sizeof path, "/opt/models/worker-%u --key secret\033[31m", pid);
    return text(to, size, path);
}

const char *nvmlErrorString(int code) {
    (void)code;
    return "an error without a name";
}
