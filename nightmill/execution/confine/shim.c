/* Confines itself by rules, and becomes the program of a step; see shim.py, which writes the rules.

   It is the first program in a container, whatever is in its image: so it needs no library, neither when it is made nor
   when it runs.

       shim RULES PROGRAM [ARGUMENT...]

   RULES is a path, or the number of an open file, which the step does not have. Where PROGRAM cannot become the step, it says why on
   stderr and, where RULES is an open file, at its end; and exits with 127 where there is no such program, else 126. */

typedef unsigned long word; /* all that it speaks to the kernel in, on both */

enum { O_RDONLY = 0, O_PATH = 010000000, O_CLOEXEC = 02000000, AT_FDCWD = -100, AT_EMPTY_PATH = 0x1000 };
enum { ENOENT = 2, EACCES = 13, ENOTDIR = 20, ENOEXEC = 8, EXIT_USAGE = 64 };
enum { S_IFMT = 0170000, S_IFDIR = 0040000, S_IFLNK = 0120000 };
enum { MODE_AT = 28, STATX_TYPE = 1, STATX_SIZE = 256, ENTRY_NAME_AT = 19, ENTRY_SIZE_AT = 16 };
enum { PATH_MAX = 4096, FILE_RIGHTS = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15 };
enum { OPTIONAL = 1, APART = 2 };

#if defined(__x86_64__)
enum { O_DIRECTORY = 0200000, O_NOFOLLOW = 0400000 };
enum {
    SYS_write = 1, SYS_close = 3, SYS_lseek = 8, SYS_mmap = 9, SYS_execve = 59, SYS_fcntl = 72, SYS_getcwd = 79, SYS_prctl = 157,
    SYS_getdents64 = 217, SYS_exit_group = 231, SYS_openat = 257, SYS_prlimit64 = 302, SYS_seccomp = 317, SYS_statx = 332
};
static long call6(word number, word a, word b, word c, word d, word e, word f)
{
    long result;
    register word r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
__asm__(".globl _start\n_start:\n xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call begin\n hlt\n");
#elif defined(__aarch64__)
enum { O_DIRECTORY = 040000, O_NOFOLLOW = 0100000 };
enum {
    SYS_getcwd = 17, SYS_fcntl = 25, SYS_openat = 56, SYS_close = 57, SYS_getdents64 = 61, SYS_lseek = 62, SYS_write = 64,
    SYS_exit_group = 94, SYS_prctl = 167, SYS_execve = 221, SYS_mmap = 222, SYS_prlimit64 = 261, SYS_seccomp = 277,
    SYS_statx = 291
};
static long call6(word number, word a, word b, word c, word d, word e, word f)
{
    register word x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c,
                  x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return (long)x0;
}
__asm__(".globl _start\n_start:\n mov x29, #0\n mov x0, sp\n bl begin\n");
#else
#error "written for x86_64 and aarch64"
#endif
enum { SYS_landlock_create_ruleset = 444, SYS_landlock_add_rule = 445, SYS_landlock_restrict_self = 446 };
enum { PR_SET_NO_NEW_PRIVS = 38, SECCOMP_SET_MODE_FILTER = 1, RULE_PATH = 1, RULE_PORT = 2, F_SETFD = 2, FD_CLOEXEC = 1 };

#define call(number, a, b, c, d, e) call6(number, (word)(a), (word)(b), (word)(c), (word)(d), (word)(e), 0)

struct path_rule { word rights; int folder; } __attribute__((packed));
struct port_rule { word rights, port; };
struct filter { unsigned short count; const char *program; };

static int told = -1;             /* open file of the rules */
static int ruleset = -1;
static const char *at, *end;      /* of the rules, what is not read yet */
static char apart[PATH_MAX];      /* the folder that a rule may leave out: the parent of the one where it works */

void *memset(void *to, int byte, word size)
{
    for (char *each = to; size--;) *each++ = (char)byte;
    return to;
}

void *memcpy(void *to, const void *from, word size)
{
    const char *source = from;
    for (char *each = to; size--;) *each++ = *source++;
    return to;
}

word strlen(const char *text)
{
    word size = 0;
    while (text[size]) size++;
    return size;
}

static void say(const char *text)
{
    call(SYS_write, 2, text, strlen(text), 0, 0);
    if (told >= 0) call(SYS_write, told, text, strlen(text), 0, 0);
}

static void say_error(long error)
{
    static const struct { int number; const char *text; } texts[] = {
        {1, "Operation not permitted"}, {ENOENT, "No such file or directory"}, {7, "Argument list too long"},
        {ENOEXEC, "Exec format error"}, {9, "Bad file descriptor"}, {12, "Cannot allocate memory"},
        {EACCES, "Permission denied"}, {ENOTDIR, "Not a directory"}, {22, "Invalid argument"},
        {26, "Text file busy"}, {38, "Function not implemented"}, {40, "Too many levels of symbolic links"},
        {95, "Operation not supported"},
    };
    for (word each = 0; each < sizeof texts / sizeof *texts; each++)
        if (texts[each].number == -error) {
            say(texts[each].text);
            return;
        }
    char digits[24], *first = digits + sizeof digits - 1;
    *first = 0;
    for (error = -error; first > digits && (error || !*first); error /= 10) *--first = (char)('0' + error % 10);
    say("error ");
    say(first);
}

static void fail(const char *what, const char *which, long error, int code)
{
    say(what);
    say(which);
    say(": ");
    say_error(error);
    say("\n");
    for (;;) call(SYS_exit_group, code, 0, 0, 0, 0);
}

static long tried(long result, const char *what, const char *which)
{
    if (result < 0) fail(what, which, result, 126);
    return result;
}

static const char *take(word size)
{
    const char *taken = at;
    if (size > (word)(end - at)) fail("its rules end too soon", "", -22, 126);
    at += size;
    return taken;
}

static word number(void)
{
    return *(const word *)take(sizeof(word));
}

/* Return whether a path is the folder that is left out (2), has it in it (1), or neither. */
static int around(const char *path)
{
    word size = strlen(path);
    if (size == 1) return 1; /* the root */
    for (word each = 0; each < size; each++)
        if (path[each] != apart[each]) return 0;
    return apart[size] == 0 ? 2 : apart[size] == '/';
}

static void allow(const char *path, word rights, word how, int links);

/* Give rights to all that is in a folder now, but for what is left out. */
static void allow_in(const char *path, word rights)
{
    char entries[4096], inside[PATH_MAX];
    word size = strlen(path);
    long folder = call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0), filled;
    if (folder < 0) return; /* what cannot be listed is not given */
    while ((filled = call(SYS_getdents64, folder, entries, sizeof entries, 0, 0)) > 0)
        for (long each = 0; each < filled; each += *(unsigned short *)(entries + each + ENTRY_SIZE_AT)) {
            const char *name = entries + each + ENTRY_NAME_AT;
            if (name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]))) continue;
            if (size + strlen(name) + 2 > sizeof inside) continue;
            memcpy(inside, path, size);
            inside[size] = '/';
            memcpy(inside + size - (size == 1) + 1, name, strlen(name) + 1);
            allow(inside, rights, OPTIONAL | APART, 0);
        }
    call(SYS_close, folder, 0, 0, 0, 0);
}

static void allow(const char *path, word rights, word how, int links)
{
    int place = how & APART ? around(path) : 0;
    if (place == 1) allow_in(path, rights);
    if (place) return;
    long opened = call(SYS_openat, AT_FDCWD, path, O_PATH | O_CLOEXEC | (links ? 0 : O_NOFOLLOW), 0, 0);
    if (opened < 0 && how & OPTIONAL) return;
    tried(opened, "cannot confine: ", path);
    char facts[STATX_SIZE];
    tried(call(SYS_statx, opened, "", AT_EMPTY_PATH, STATX_TYPE, facts), "cannot confine: ", path);
    int kind = *(unsigned short *)(facts + MODE_AT) & S_IFMT;
    struct path_rule rule = {kind == S_IFDIR ? rights : rights & FILE_RIGHTS, (int)opened};
    if (kind != S_IFLNK && rule.rights)
        tried(call(SYS_landlock_add_rule, ruleset, RULE_PATH, &rule, 0, 0), "cannot confine: ", path);
    call(SYS_close, opened, 0, 0, 0, 0);
}

static void confine(void)
{
    word handled[3];
    for (int each = 0; each < 3; each++) handled[each] = number(); /* of files, of ports, and scopes */
    word size = number(); /* of those that this kernel knows */
    for (word count = number(); count; count--) {
        word resource = number(), wanted = number(), limit[2];
        tried(call(SYS_prlimit64, 0, resource, 0, limit, 0), "cannot limit itself", "");
        limit[0] = limit[1] = wanted < limit[1] ? wanted : limit[1];
        tried(call(SYS_prlimit64, 0, resource, limit, 0, 0), "cannot limit itself", "");
    }
    tried(call(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "cannot give up privileges", "");
    if (size) ruleset = (int)tried(call(SYS_landlock_create_ruleset, handled, size, 0, 0, 0), "no Landlock in here", "");
    for (word count = number(); count; count--)
        tried(call(SYS_landlock_add_rule, ruleset, RULE_PORT, take(sizeof(struct port_rule)), 0, 0),
              "cannot allow a port", "");
    if (call(SYS_getcwd, apart, sizeof apart, 0, 0, 0) > 0) {
        word last = strlen(apart);
        while (last && apart[last] != '/') last--;
        apart[last] = 0;
    }
    for (word count = number(); count; count--) {
        word rights = number(), how = number(), length = number();
        allow(take(length), rights, how, 1);
    }
    if (size) {
        tried(call(SYS_landlock_restrict_self, ruleset, 0, 0, 0, 0), "no Landlock in here", "");
        call(SYS_close, ruleset, 0, 0, 0, 0);
    }
    struct filter filter = {(unsigned short)number(), 0};
    filter.program = take(filter.count * sizeof(word));
    if (filter.count)
        tried(call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter, 0, 0), "no seccomp in here", "");
}

/* As execve, and as a shell would run what has no header; the argument before the first is not needed any more. */
static long become(const char *path, char **argv, char **environment)
{
    long error = call(SYS_execve, path, argv, environment, 0, 0);
    if (error != -ENOEXEC) return error;
    char *before = argv[-1], *program = argv[0];
    argv[-1] = "/bin/sh";
    argv[0] = (char *)path;
    error = call(SYS_execve, "/bin/sh", argv - 1, environment, 0, 0);
    argv[-1] = before;
    argv[0] = program;
    return error;
}

/* As execvp. */
static long search(char **argv, char **environment)
{
    char path[PATH_MAX];
    const char *folders = "/bin:/usr/bin";
    long error = -ENOENT;
    word size = strlen(argv[0]);
    for (const char *each = argv[0]; *each; each++)
        if (*each == '/') return become(argv[0], argv, environment);
    for (char **each = environment; *each; each++) {
        const char *text = *each;
        if (text[0] == 'P' && text[1] == 'A' && text[2] == 'T' && text[3] == 'H' && text[4] == '=') folders = text + 5;
    }
    while (size) {
        word length = 0;
        while (folders[length] && folders[length] != ':') length++;
        if (length + size + 2 <= sizeof path) {
            memcpy(path, folders, length);
            if (length) path[length] = '/';
            memcpy(path + length + (length > 0), argv[0], size + 1);
            long found = become(path, argv, environment);
            if (found == -EACCES) error = found;
            else if (found != -ENOENT && found != -ENOTDIR) return found;
        }
        if (!folders[length]) break;
        folders += length + 1;
    }
    return error;
}

__attribute__((noreturn, used)) void begin(word *stack)
{
    char **argv = (char **)(stack + 1), **environment = argv + stack[0] + 1;
    if (stack[0] < 3)
        for (;;) call(SYS_exit_group, EXIT_USAGE, 0, 0, 0, 0);
    long file = 0;
    if (argv[1][0] == '/') file = tried(call(SYS_openat, AT_FDCWD, argv[1], O_RDONLY | O_CLOEXEC, 0, 0), argv[1], "");
    else {
        for (const char *digit = argv[1]; *digit >= '0' && *digit <= '9'; digit++) file = 10 * file + *digit - '0';
        told = (int)file;
    }
    long size = tried(call(SYS_lseek, file, 0, 2, 0, 0), "its rules cannot be read", "");
    at = (const char *)tried(call6(SYS_mmap, 0, (word)size, 1, 2, (word)file, 0), "its rules cannot be read", "");
    end = at + size;
    call(SYS_fcntl, file, F_SETFD, FD_CLOEXEC, 0, 0);
    confine();
    long error = search(argv + 2, environment);
    fail("execvp ", argv[2], error, error == -ENOENT ? 127 : 126);
    __builtin_unreachable();
}
