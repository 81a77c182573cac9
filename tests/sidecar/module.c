/* A PKCS#11 module in front of another one (TOKEN_MODULE). It writes down what is asked of it
 * (TOKEN_DIR/log) and fails on order (TOKEN_DIR/fault, read at each call): "<call> <fault>", where
 * the call is load, open, login, sign or info, and the fault is crash, hang, leak, slow, lose or a
 * code: slow takes 300 ms, lose does it and crashes before it answers. The code of info is or-ed
 * into the token's flags. */

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long rv;

/* CK_FUNCTION_LIST of PKCS#11 2.40: a version, then 68 pointers. */
struct list {
    unsigned char version[2];
    void *call[68];
};

enum { TOKEN_INFO = 6, OPEN = 12, CLOSE = 13, LOGIN = 18, SIGN = 43 };
/* No code of the standard. */
enum { LOSE = 0x7fffffff };
enum { HOST_MEMORY = 0x02, FLAGS_AT = 96, LEAK = 8 << 20 };

static struct list real, mine;

static void path(char *to, size_t size, const char *name) {
    const char *dir = getenv("TOKEN_DIR");
    snprintf(to, size, "%s/%s", dir ? dir : "/nonexistent", name);
}

static void note(const char *what) {
    char line[64], log[512];
    int len = snprintf(line, sizeof line, "%s %d\n", what, (int)getpid());
    path(log, sizeof log, "log");
    int file = open(log, O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (file < 0)
        return;
    if (write(file, line, (size_t)len) < 0)
        perror("note");
    close(file);
}

/* What is ordered for a call: 0 when nothing is. Does not come back from a crash or a hang. */
static rv fault(const char *call) {
    char order[64] = "", name[512];
    path(name, sizeof name, "fault");
    int file = open(name, O_RDONLY);
    if (file < 0)
        return 0;
    ssize_t len = read(file, order, sizeof order - 1);
    close(file);
    size_t word = strlen(call);
    if (len <= 0 || strncmp(order, call, word) != 0 || order[word] != ' ')
        return 0;
    note("struck");
    const char *what = order + word + 1;
    if (strncmp(what, "crash", 5) == 0)
        __builtin_trap();
    while (strncmp(what, "hang", 4) == 0)
        pause();
    if (strncmp(what, "slow", 4) == 0) {
        usleep(300000);
        return 0;
    }
    if (strncmp(what, "lose", 4) == 0)
        return LOSE;
    if (strncmp(what, "leak", 4) == 0) {
        char *lost = malloc(LEAK);
        if (!lost)
            return HOST_MEMORY;
        memset(lost, 1, LEAK);
        return 0;
    }
    return strtoul(what, NULL, 0);
}

static rv token_info(unsigned long slot, unsigned char *info) {
    rv (*call)(unsigned long, unsigned char *) = real.call[TOKEN_INFO];
    rv result = call(slot, info);
    unsigned long flags;
    memcpy(&flags, info + FLAGS_AT, sizeof flags);
    flags |= fault("info");
    memcpy(info + FLAGS_AT, &flags, sizeof flags);
    return result;
}

static rv open_session(unsigned long slot, unsigned long flags, void *app, void *notify,
                       unsigned long *session) {
    rv (*call)(unsigned long, unsigned long, void *, void *, unsigned long *) = real.call[OPEN];
    rv result = fault("open");
    if (result == 0)
        result = call(slot, flags, app, notify, session);
    if (result == 0)
        note("open");
    return result;
}

static rv close_session(unsigned long session) {
    rv (*call)(unsigned long) = real.call[CLOSE];
    rv result = call(session);
    if (result == 0)
        note("close");
    return result;
}

static rv login(unsigned long session, unsigned long user, char *pin, unsigned long len) {
    rv (*call)(unsigned long, unsigned long, char *, unsigned long) = real.call[LOGIN];
    note("login");
    rv result = fault("login");
    return result ? result : call(session, user, pin, len);
}

static rv sign(unsigned long session, char *data, unsigned long len, char *to, unsigned long *size) {
    rv (*call)(unsigned long, char *, unsigned long, char *, unsigned long *) = real.call[SIGN];
    rv result = fault("sign");
    if (result == LOSE) {
        if (call(session, data, len, to, size) == 0)
            note("lost");
        __builtin_trap();
    }
    return result ? result : call(session, data, len, to, size);
}

__attribute__((constructor)) static void loaded(void) {
    note("load");
    fault("load");
}

rv C_GetFunctionList(struct list **list) {
    struct list *found = NULL;
    const char *name = getenv("TOKEN_MODULE");
    void *library = name ? dlopen(name, RTLD_NOW | RTLD_LOCAL) : NULL;
    rv (*get)(struct list **) = library ? (rv(*)(struct list **))dlsym(library, "C_GetFunctionList") : NULL;
    if (!get || get(&found) != 0)
        return 0x05;
    real = mine = *found;
    mine.call[TOKEN_INFO] = token_info;
    mine.call[OPEN] = open_session;
    mine.call[CLOSE] = close_session;
    mine.call[LOGIN] = login;
    mine.call[SIGN] = sign;
    *list = &mine;
    return 0;
}
