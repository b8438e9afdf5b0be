/* appcat-guest: gives a guest its identity, at boot and again after it was cloned.
 *
 *   appcat-guest boot     apply the document that QEMU hands over in fw_cfg, if there is one, then end
 *   appcat-guest serve    serve documents that come over the virtio port org.appcat.guest.0, for ever
 *   appcat-guest relay PORT SOCKET
 *                         join the virtio port named PORT to a server at SOCKET whenever a host is connected, for ever
 *
 * A document is lines of words with single spaces between them:
 *
 *   appcat-guest 1 ID                          protocol version; a token that comes back with the reply
 *   hostname NAME
 *   machine-id 32-HEX-DIGITS
 *   mac INTERFACE aa:bb:cc:dd:ee:ff            before its address: an interface loses routes when it gets another
 *   address INTERFACE A.B.C.D/PREFIX [GATEWAY]
 *   file OCTAL-MODE PATH [BASE64]              replaced at once, never half written; directories are made
 *   section OCTAL-MODE PATH [BASE64]           the same, but only for what stands between the lines "# appcat begin" and
 *                                              "# appcat end", which are added at the end where they are missing;
 *                                              without BASE64 they are taken out
 *   entropy BASE64                             credited, and the kernel's generator is seeded anew
 *   clock SECONDS[.NANOSECONDS]                since the epoch
 *   hooks DIRECTORY [SECONDS]                  runs the executables in it in order of name, each for SECONDS at most (5)
 *   end
 *
 * INTERFACE is a name, or @SLOT.FUNCTION (hexadecimal): what is behind the PCI root port at that address, which may have
 * been plugged in this moment, and is waited for.
 *
 * The whole document is checked before its first statement is applied. Statements are applied in order and the first
 * that fails ends it. The reply is one line, "ok ID" or "error ID LINE MESSAGE" (LINE 0: the document as such). A line
 * that starts with "appcat-guest" always begins a document, so whatever a host that went away left behind is dropped.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <net/if.h>
#include <net/route.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BOOT_DOCUMENT "/sys/firmware/qemu_fw_cfg/by_name/opt/org.appcat/identity/raw"
#define PORT_NAMES "/sys/class/virtio-ports/*/name"
#define PORT_NAME "org.appcat.guest.0"
#define HEADER "appcat-guest "
#define VERSION "1"
#define LEVEL "2" /* grows with what is understood here: appcat/model/image.py */
#define SECTION_BEGIN "# appcat begin"
#define SECTION_END "# appcat end"
#define BEHIND_PORT "/sys/bus/pci/devices/0000:00:%s/0000:*/virtio*/net/*"
#define ARP_NOTIFY "/proc/sys/net/ipv4/conf/%s/arp_notify"

enum { DOCUMENT_MAX = 256 * 1024, LINES_MAX = 256, WORDS_MAX = 4, ID_MAX = 64, STALL_SECONDS = 10, ANSWER_SECONDS = 1, HOOK_SECONDS = 5, RELAY_SECONDS = 3600, PLUG_SECONDS = 5, SECTION_FILE_MAX = 1024 * 1024, LIKELY_CARDS = 4 };

/* From linux/random.h, to do without the kernel's headers. */
#define RNDADDENTROPY _IOW('R', 0x03, int[2])
#define RNDRESEEDCRNG _IO('R', 0x07)

struct entropy {
    int bits, size;
    unsigned char data[512];
};

/* What went wrong last. Functions that can fail return 0 for success and -1 after refuse() has filled this. */
static char reason[256];

static int refuse(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    return -1;
}

static int refuse_errno(const char *what)
{
    return refuse("%s: %s", what, strerror(errno));
}

/* ---- values ---- */

static int sextet(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c ? strchr(digits, c) : NULL;

    return found ? found - digits : -1;
}

/* Decode base64 into `out` (which may be NULL, to check only) and return the number of bytes, or -1. */
static long decode(const char *text, unsigned char *out)
{
    size_t length = strlen(text), size = 0;
    unsigned bits = 0;

    if (length % 4)
        return refuse("base64 is cut off");
    while (length && text[length - 1] == '=' && strlen(text) - length < 2)
        length--;
    for (size_t i = 0; i < length; i++) {
        int value = sextet(text[i]);
        if (value < 0)
            return refuse("not base64");
        bits = bits << 6 | value;
        if (i % 4) {
            if (out)
                out[size] = bits >> (6 - 2 * (i % 4));
            size++;
        }
    }
    return size;
}

static int parse_number(const char *text, int base, unsigned long max, unsigned long *number)
{
    char *end;

    errno = 0;
    *number = strtoul(text, &end, base);
    if (text[0] < '0' || text[0] > '9' || *end || errno || *number > max)
        return refuse("%.40s is not a number up to %lu", text, max);
    return 0;
}

static int parse_mac(const char *text, unsigned char mac[6])
{
    int used = 0;

    if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5],
               &used) != 6 || used != 17 || text[used])
        return refuse("%.40s is not a MAC address", text);
    return 0;
}

static int parse_ipv4(const char *text, struct in_addr *address)
{
    return inet_pton(AF_INET, text, address) == 1 ? 0 : refuse("%.40s is not an IPv4 address", text);
}

static int check_interface(const char *name)
{
    static const char hex[] = "0123456789abcdef";

    if (name[0] == '@')
        return strlen(name) == 5 && strspn(name + 1, hex) == 2 && name[3] == '.' && strspn(name + 4, "01234567") == 1
                   ? 0 : refuse("%.40s is not a root port: @SLOT.FUNCTION", name);
    return strlen(name) < IFNAMSIZ && !strchr(name, '/') ? 0 : refuse("%.40s is not an interface name", name);
}

static int check_path(const char *path)
{
    return path[0] == '/' && strlen(path) < 1024 ? 0 : refuse("%.40s is not an absolute path", path);
}

/* ---- files ---- */

static int make_parents(const char *path)
{
    char part[1024];

    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        if (mkdir(part, 0755) && errno != EEXIST)
            return refuse_errno(part);
    }
    return 0;
}

static int write_all(int fd, const unsigned char *data, size_t size)
{
    while (size) {
        ssize_t written = write(fd, data, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -1;
        data += written;
        size -= written;
    }
    return 0;
}

static int write_file(const char *path, const void *data, size_t size, mode_t mode)
{
    char temporary[1040];
    int fd, failed;

    if (make_parents(path))
        return -1;
    snprintf(temporary, sizeof temporary, "%s.appcat-new", path);
    unlink(temporary);
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return refuse_errno(path);
    failed = write_all(fd, data, size) || fchmod(fd, mode);
    if (close(fd) || failed || rename(temporary, path)) {
        refuse_errno(path);
        unlink(temporary);
        return -1;
    }
    return 0;
}

/* ---- statements: each takes its words, checks them, and applies them unless `only_check` ---- */

static int hostname(char **words, int only_check)
{
    char line[80];

    if (strlen(words[0]) > 63 || strspn(words[0], "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(words[0]))
        return refuse("%.40s is not a host name", words[0]);
    if (only_check)
        return 0;
    if (sethostname(words[0], strlen(words[0])))
        return refuse_errno("sethostname");
    snprintf(line, sizeof line, "%s\n", words[0]);
    return write_file("/etc/hostname", line, strlen(line), 0644);
}

static int machine_id(char **words, int only_check)
{
    char line[34];

    if (strlen(words[0]) != 32 || strspn(words[0], "0123456789abcdef") != 32)
        return refuse("a machine-id is 32 hexadecimal digits");
    if (only_check)
        return 0;
    snprintf(line, sizeof line, "%s\n", words[0]);
    return write_file("/etc/machine-id", line, 33, 0444);
}

static int interface_request(int request, const char *name, struct ifreq *value)
{
    static int fd = -1;

    if (fd < 0)
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(value->ifr_name, IFNAMSIZ, "%s", name);
    return fd < 0 || ioctl(fd, request, value) ? refuse_errno(name) : 0;
}

/* What find_interface found last in the document at hand: a card has several statements, and looking takes milliseconds. */
static char last_word[16], last_name[IFNAMSIZ];

/* The name of what is behind a root port, where it has the kernel's own: one look each instead of many directories. */
static int is_behind(const char *port, const char *name)
{
    char path[40], target[256], wanted[24];
    ssize_t length;

    snprintf(path, sizeof path, "/sys/class/net/%s", name);
    length = readlink(path, target, sizeof target - 1);
    target[length > 0 ? length : 0] = 0;
    snprintf(wanted, sizeof wanted, "/0000:00:%s/", port);
    return !!strstr(target, wanted);
}

/* Whether there is a card behind a root port that the kernel has made ready for addresses: the last that it does is to
 * show its settings. */
static int look_behind(const char *port, char name[IFNAMSIZ])
{
    char pattern[sizeof BEHIND_PORT + 8], settings[80];
    glob_t found;
    int number = 1;

    do
        snprintf(name, IFNAMSIZ, "eth%d", number);
    while (!is_behind(port, name) && ++number <= LIKELY_CARDS);
    if (number > LIKELY_CARDS) {
        snprintf(pattern, sizeof pattern, BEHIND_PORT, port);
        if (glob(pattern, 0, NULL, &found))
            return 0;
        snprintf(name, IFNAMSIZ, "%s", strrchr(found.gl_pathv[0], '/') + 1);
        globfree(&found);
    }
    snprintf(settings, sizeof settings, ARP_NOTIFY, name);
    return !access(settings, F_OK);
}

/* The interface that a statement means; one behind a root port may take a moment to appear. */
static int find_interface(const char *word, char name[IFNAMSIZ])
{
    if (word[0] != '@') {
        snprintf(name, IFNAMSIZ, "%s", word);
        return 0;
    }
    for (int waited = 0; strcmp(word, last_word); waited += 10) {
        if (look_behind(word + 1, last_name))
            snprintf(last_word, sizeof last_word, "%s", word);
        else if (waited >= PLUG_SECONDS * 1000)
            return refuse("there is no network card at %.40s", word);
        else
            usleep(10000);
    }
    snprintf(name, IFNAMSIZ, "%s", last_name);
    return 0;
}

static int set_up(const char *name, int up)
{
    struct ifreq flags = {0};

    if (interface_request(SIOCGIFFLAGS, name, &flags))
        return -1;
    if (!(flags.ifr_flags & IFF_UP) == !up)
        return 0;
    flags.ifr_flags ^= IFF_UP;
    return interface_request(SIOCSIFFLAGS, name, &flags);
}

/* Have the kernel tell the neighbours when the interface comes up: they still know the address under the old MAC. */
static int announce(const char *name)
{
    char path[80];
    int fd, failed;

    snprintf(path, sizeof path, ARP_NOTIFY, name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    failed = fd < 0 || write(fd, "1", 1) != 1;
    if (failed)
        refuse_errno(path);
    close(fd);
    return failed;
}

static int mac(char **words, int only_check)
{
    struct ifreq hardware = {0}, flags = {0};
    unsigned char wanted[6];
    char name[IFNAMSIZ];

    if (check_interface(words[0]) || parse_mac(words[1], wanted))
        return -1;
    if (only_check)
        return 0;
    if (find_interface(words[0], name))
        return -1;
    if (interface_request(SIOCGIFHWADDR, name, &hardware) || interface_request(SIOCGIFFLAGS, name, &flags))
        return -1;
    if (!memcmp(hardware.ifr_hwaddr.sa_data, wanted, 6))
        return 0;
    memcpy(hardware.ifr_hwaddr.sa_data, wanted, 6);
    if (announce(name) || set_up(name, 0) || interface_request(SIOCSIFHWADDR, name, &hardware))
        return -1;
    return set_up(name, flags.ifr_flags & IFF_UP);
}

static int set_address(int request, const char *name, struct in_addr address)
{
    struct ifreq value = {0};
    struct sockaddr_in *socket_address = (struct sockaddr_in *)&value.ifr_addr;

    socket_address->sin_family = AF_INET;
    socket_address->sin_addr = address;
    return interface_request(request, name, &value);
}

static int set_gateway(struct in_addr gateway)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), failed;
    struct rtentry route = {0};

    ((struct sockaddr_in *)&route.rt_dst)->sin_family = AF_INET;
    ((struct sockaddr_in *)&route.rt_genmask)->sin_family = AF_INET;
    route.rt_flags = RTF_UP;
    ioctl(fd, SIOCDELRT, &route);
    route.rt_flags = RTF_UP | RTF_GATEWAY;
    ((struct sockaddr_in *)&route.rt_gateway)->sin_family = AF_INET;
    ((struct sockaddr_in *)&route.rt_gateway)->sin_addr = gateway;
    failed = ioctl(fd, SIOCADDRT, &route);
    if (failed)
        refuse_errno("default route");
    close(fd);
    return failed;
}

static int address(char **words, int only_check)
{
    struct in_addr own, gateway, netmask;
    unsigned long prefix;
    char text[20], name[IFNAMSIZ], *slash;

    snprintf(text, sizeof text, "%s", words[1]);
    slash = strchr(text, '/');
    if (!slash)
        return refuse("an address needs /PREFIX");
    *slash = 0;
    if (check_interface(words[0]) || parse_ipv4(text, &own) || parse_number(slash + 1, 10, 32, &prefix))
        return -1;
    if (words[2] && parse_ipv4(words[2], &gateway))
        return -1;
    if (only_check)
        return 0;
    netmask.s_addr = prefix ? htonl(~0u << (32 - prefix)) : 0;
    if (find_interface(words[0], name) || set_up("lo", 1))
        return -1;
    if (set_address(SIOCSIFADDR, name, own) || set_address(SIOCSIFNETMASK, name, netmask) || set_up(name, 1))
        return -1;
    return words[2] ? set_gateway(gateway) : 0;
}

static int file(char **words, int only_check)
{
    static unsigned char content[DOCUMENT_MAX];
    const char *text = words[2] ? words[2] : "";
    unsigned long mode;

    if (parse_number(words[0], 8, 07777, &mode) || check_path(words[1]) || decode(text, NULL) < 0)
        return -1;
    return only_check ? 0 : write_file(words[1], content, decode(text, content), mode);
}

/* The content of a file, ended by a zero; empty where there is none, NULL when it cannot be had. The caller frees it. */
static char *read_file(const char *path)
{
    char *content = malloc(SECTION_FILE_MAX + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = 0, used = 0;

    if (content && (fd >= 0 || errno == ENOENT)) {
        while (fd >= 0 && used < SECTION_FILE_MAX && (got = read(fd, content + used, SECTION_FILE_MAX - used)) > 0)
            used += got;
        content[used] = 0;
    }
    if (!content || (fd < 0 && errno != ENOENT) || got < 0)
        refuse_errno(path);
    else if (used == SECTION_FILE_MAX || strlen(content) != (size_t)used)
        refuse("%.200s is too large, or no text", path);
    else
        got = 1;
    close(fd);
    if (got == 1)
        return content;
    free(content);
    return NULL;
}

static int is_mark(const char *line, const char *mark)
{
    size_t length = strlen(mark);

    return !strncmp(line, mark, length) && (!line[length] || line[length] == '\n');
}

/* Where the section of a text begins, and how long it is with its marks; at the end, with length 0, if there is none.
 * It is from a mark of its beginning to the next of its end: of several beginnings, whoever left them, the last. */
static char *find_section(char *text, size_t *length)
{
    char *begin = NULL, *line = text, *next;

    for (; *line; line = next) {
        next = strchr(line, '\n');
        next = next ? next + 1 : line + strlen(line);
        if (is_mark(line, SECTION_BEGIN))
            begin = line;
        else if (begin && is_mark(line, SECTION_END))
            return *length = next - begin, begin;
    }
    return *length = 0, line;
}

/* The whole file with `content` as its section, or without one where that is empty. */
static int write_section(const char *path, char *text, const char *content, mode_t mode)
{
    size_t length, before, room;
    char *begin = find_section(text, &length), *whole;
    const char *missing, *end = "";
    int failed;

    if (!length && !*content)
        return 0;
    before = begin - text;
    missing = before && begin[-1] != '\n' ? "\n" : "";
    if (*content && content[strlen(content) - 1] != '\n')
        end = "\n";
    room = strlen(text) + strlen(content) + strlen(SECTION_BEGIN SECTION_END) + 5;
    whole = malloc(room);
    if (!whole)
        return refuse_errno(path);
    if (*content)
        snprintf(whole, room, "%.*s%s" SECTION_BEGIN "\n%s%s" SECTION_END "\n%s", (int)before, text, missing, content, end,
                 begin + length);
    else
        snprintf(whole, room, "%.*s%s", (int)before, text, begin + length);
    failed = write_file(path, whole, strlen(whole), mode);
    free(whole);
    return failed;
}

static int section(char **words, int only_check)
{
    static char content[DOCUMENT_MAX];
    const char *text = words[2] ? words[2] : "";
    unsigned long mode;
    char *old;
    int failed;

    if (parse_number(words[0], 8, 07777, &mode) || check_path(words[1]) || decode(text, NULL) < 0)
        return -1;
    if (only_check)
        return 0;
    content[decode(text, (unsigned char *)content)] = 0;
    old = read_file(words[1]);
    if (!old)
        return -1;
    failed = write_section(words[1], old, content, mode);
    free(old);
    return failed;
}

static int entropy(char **words, int only_check)
{
    struct entropy pool;
    long size = decode(words[0], NULL);
    int fd, failed;

    if (size < 0 || size > (long)sizeof pool.data)
        return size < 0 ? -1 : refuse("more than %zu bytes of entropy", sizeof pool.data);
    if (only_check)
        return 0;
    pool.size = decode(words[0], pool.data);
    pool.bits = 8 * pool.size;
    fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
    failed = ioctl(fd, RNDADDENTROPY, &pool) || ioctl(fd, RNDRESEEDCRNG);
    if (failed)
        refuse_errno("/dev/urandom");
    close(fd);
    return failed;
}

static int set_clock(char **words, int only_check)
{
    char text[32], *dot;
    unsigned long seconds, nanoseconds = 0;
    struct timespec now;

    snprintf(text, sizeof text, "%s", words[0]);
    dot = strchr(text, '.');
    if (dot)
        *dot = 0;
    if (parse_number(text, 10, 1ul << 40, &seconds))
        return -1;
    if (dot && (strlen(dot + 1) != 9 || parse_number(dot + 1, 10, 999999999, &nanoseconds)))
        return refuse("nanoseconds are nine digits");
    now.tv_sec = seconds;
    now.tv_nsec = nanoseconds;
    return only_check || !clock_settime(CLOCK_REALTIME, &now) ? 0 : refuse_errno("clock_settime");
}

/* Wait for a child at most so many seconds, then kill it; its status as waitpid gives it. */
static int wait_for(pid_t child, unsigned long seconds)
{
    int status;

    for (unsigned long passed = 0; passed < seconds * 1000; passed += 5) {
        if (waitpid(child, &status, WNOHANG) == child)
            return status;
        usleep(5000);
    }
    kill(-child, SIGKILL);
    waitpid(child, &status, 0);
    return status;
}

static int run_hook(const char *path, unsigned long seconds)
{
    char name[65] = "", variable[80];
    char *arguments[] = {(char *)path, NULL};
    char *environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", variable, NULL};
    sigset_t none;
    pid_t child;
    int status;

    gethostname(name, sizeof name - 1);
    snprintf(variable, sizeof variable, "HOSTNAME=%s", name);
    child = fork();
    if (child < 0)
        return refuse_errno("fork");
    if (!child) {
        setsid();
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        execve(path, arguments, environment);
        _exit(127);
    }
    status = wait_for(child, seconds);
    if (WIFSIGNALED(status))
        return refuse("%s was ended by signal %d", path, WTERMSIG(status));
    return WEXITSTATUS(status) ? refuse("%s ended with status %d", path, WEXITSTATUS(status)) : 0;
}

static int hooks(char **words, int only_check)
{
    unsigned long seconds = HOOK_SECONDS;
    char pattern[1040];
    glob_t found;
    int failed = 0;

    if (check_path(words[0]) || (words[1] && parse_number(words[1], 10, 3600, &seconds)))
        return -1;
    if (only_check)
        return 0;
    snprintf(pattern, sizeof pattern, "%s/*", words[0]);
    if (glob(pattern, 0, NULL, &found))
        return 0;
    for (size_t i = 0; i < found.gl_pathc && !failed; i++)
        if (!access(found.gl_pathv[i], X_OK))
            failed = run_hook(found.gl_pathv[i], seconds);
    globfree(&found);
    return failed;
}

static int end(char **words, int only_check)
{
    return 0;
}

static const struct statement {
    const char *name;
    int least, most;
    int (*run)(char **words, int only_check);
} statements[] = {
    {"hostname", 1, 1, hostname}, {"machine-id", 1, 1, machine_id}, {"mac", 2, 2, mac},
    {"address", 2, 3, address},   {"file", 2, 3, file},             {"entropy", 1, 1, entropy},
    {"clock", 1, 1, set_clock},   {"hooks", 1, 2, hooks},           {"section", 2, 3, section},
    {"end", 0, 0, end},
};

/* ---- documents ---- */

struct line {
    char *words[WORDS_MAX + 1];
    int count;
};

/* Split a line at its spaces, in place; the list of words ends with NULL. */
static int split(char *text, struct line *line)
{
    line->count = 0;
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) {
        if (line->count == WORDS_MAX)
            return refuse("too many words");
        line->words[line->count++] = word;
    }
    line->words[line->count] = NULL;
    return line->count ? 0 : refuse("empty line");
}

static int run_line(struct line *line, int only_check)
{
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        const struct statement *statement = &statements[i];
        if (strcmp(line->words[0], statement->name))
            continue;
        if (line->count - 1 < statement->least || line->count - 1 > statement->most)
            return refuse("%s: wrong number of words", line->words[0]);
        return statement->run(line->words + 1, only_check);
    }
    return refuse("unknown statement %.40s", line->words[0]);
}

/* Split all of a document after its first line and check it; the number of lines, or -1 with `number` at the bad one. */
static int check_lines(char *text, struct line *lines, int *number)
{
    int count = 0;

    for (char *next; text; text = next) {
        next = strchr(text, '\n');
        if (next)
            *next++ = 0;
        *number = count + 2;
        if (count == LINES_MAX)
            return refuse("more than %d lines", LINES_MAX);
        if (split(text, &lines[count]) || run_line(&lines[count], 1))
            return -1;
        count++;
    }
    return count && !strcmp(lines[count - 1].words[0], "end") ? count : refuse("the document has no end");
}

/* The id in a document's first line, which is cut there into words; NULL when the line is not as it should be. */
static const char *read_header(char *text, struct line *header)
{
    if (split(text, header) || header->count != 3 || strlen(header->words[2]) > ID_MAX)
        return NULL;
    return header->words[2];
}

/* Check and apply a document: its lines without the last newline. `reply` gets the one-line answer. */
static int run_document(char *text, char *reply, size_t size)
{
    static struct line lines[LINES_MAX];
    struct line header;
    char *body = strchr(text, '\n');
    const char *id;
    int count, number = 1;

    if (body)
        *body++ = 0;
    id = read_header(text, &header);
    if (!id)
        return snprintf(reply, size, "error - 1 malformed first line\n"), -1;
    if (strcmp(header.words[1], VERSION))
        return snprintf(reply, size, "error %s 1 only version " VERSION " is spoken here\n", id), -1;
    last_word[0] = 0;
    count = check_lines(body, lines, &number);
    for (int i = 0; i < count; i++) {
        number = i + 2;
        if (run_line(&lines[i], 0)) {
            count = -1;
            break;
        }
    }
    if (count < 0)
        return snprintf(reply, size, "error %s %d %s\n", id, number, reason), -1;
    return snprintf(reply, size, "ok %s\n", id), 0;
}

/* ---- boot ---- */

static int boot(void)
{
    static char text[DOCUMENT_MAX + 1];
    char reply[512];
    int fd = open(BOOT_DOCUMENT, O_RDONLY | O_CLOEXEC);
    ssize_t got, used = 0;

    if (fd < 0)
        return 0; /* started without appcat: the template's own names stay */
    while ((got = read(fd, text + used, DOCUMENT_MAX - used)) > 0)
        used += got;
    close(fd);
    while (used && text[used - 1] == '\n')
        used--;
    text[used] = 0;
    if (!run_document(text, reply, sizeof reply))
        return 0;
    fprintf(stderr, "appcat-guest: %s", reply);
    return 1;
}

/* ---- serve ---- */

/* What came from the host and was not used yet: `line` is where the line begins that is not complete. */
struct input {
    char data[DOCUMENT_MAX + 1];
    size_t used, line;
    int inside;
};

static void drop(struct input *input, size_t size)
{
    input->used -= size;
    memmove(input->data, input->data + size, input->used);
    input->line = 0;
}

static void forget(struct input *input)
{
    input->used = input->line = input->inside = 0;
}

/* The driver sends SIGIO when data comes and when the host connects or goes; false after so many seconds without. */
static int wait_for_host(int seconds)
{
    struct timespec limit = {seconds, 0};
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGIO);
    return sigtimedwait(&signals, NULL, &limit) == SIGIO;
}

/* The driver may deliver a host's data before the news that it has connected; until then nothing can be written. */
static void answer(int fd, const char *reply)
{
    while (write(fd, reply, strlen(reply)) < 0 && (errno == EAGAIN || errno == EINTR))
        if (!wait_for_host(ANSWER_SECONDS))
            return;
}

static void answer_document(int fd, char *text, size_t length)
{
    char reply[512];

    text[length] = 0;
    if (strlen(text) == length)
        run_document(text, reply, sizeof reply);
    else
        snprintf(reply, sizeof reply, "error - 0 a zero byte in the document\n");
    answer(fd, reply);
}

/* Use up all complete lines: those outside of a document are dropped, a complete document is run. */
static void use_lines(int fd, struct input *input)
{
    char *newline;

    while ((newline = memchr(input->data + input->line, '\n', input->used - input->line))) {
        char *line = input->data + input->line;
        size_t length = newline - line;

        if (length >= strlen(HEADER) && !memcmp(line, HEADER, strlen(HEADER))) {
            drop(input, input->line);
            input->inside = 1;
            input->line = length + 1;
        } else if (!input->inside) {
            drop(input, input->line + length + 1);
        } else if (length == 3 && !memcmp(line, "end", 3)) {
            size_t whole = input->line + length;
            answer_document(fd, input->data, whole);
            drop(input, whole + 1);
            input->inside = 0;
        } else {
            input->line += length + 1;
        }
    }
    if (input->used == DOCUMENT_MAX) {
        if (input->inside)
            answer(fd, "error - 0 the document is too large\n");
        forget(input);
    }
}

/* Serve a port until it fails. Reading gives 0 while no host is connected, EAGAIN while it says nothing. Half a document
 * is kept in both cases: the news of a connection may come after its first bytes. Silence, or a new one, ends it. */
static void converse(int fd)
{
    static struct input input;

    for (forget(&input);;) {
        ssize_t got = read(fd, input.data + input.used, DOCUMENT_MAX - input.used);
        if (got > 0) {
            input.used += got;
            use_lines(fd, &input);
        } else if (got == 0 || errno == EAGAIN) {
            if (!wait_for_host(STALL_SECONDS))
                forget(&input);
        } else if (errno != EINTR) {
            return;
        }
    }
}

/* The device of a port, found by its name and set to send SIGIO; -1 when there is none. */
static int open_port(const char *wanted)
{
    char path[280], name[64], device[64] = "";
    int fd;
    glob_t found;

    if (glob(PORT_NAMES, 0, NULL, &found))
        return -1;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        FILE *file = fopen(found.gl_pathv[i], "r");
        if (file && fgets(name, sizeof name, file) && !strncmp(name, wanted, strlen(wanted)) &&
            name[strlen(wanted)] == '\n')
            sscanf(found.gl_pathv[i], "/sys/class/virtio-ports/%63[^/]", device);
        if (file)
            fclose(file);
    }
    globfree(&found);
    snprintf(path, sizeof path, "/dev/%s", device);
    fd = device[0] ? open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fcntl(fd, F_SETOWN, getpid());
        fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC);
    }
    return fd;
}

/* SIGIO is waited for, never taken: one that comes a moment too early is still there. */
static void block_sigio(void)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGIO);
    sigprocmask(SIG_BLOCK, &signals, NULL);
}

static void serve(void)
{
    block_sigio();
    for (;;) {
        int fd = open_port(PORT_NAME);
        if (fd >= 0) {
            converse(fd);
            close(fd);
        }
        sleep(1);
    }
}

/* ---- relay ----
 *
 * A program that reads a port by itself, as the QEMU guest agent can, has to look again and again whether a host has
 * come: poll(2) says "hung up" as long as there is none. Ten looks a second cost a hundred idle guests a processor. So
 * it serves a socket, where it can sleep, and this sleeps at the port.
 */

static int connect_to(const char *path)
{
    struct sockaddr_un address = {AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address)) {
        close(fd);
        return -1;
    }
    return fd;
}

static int host_is_there(int port)
{
    struct pollfd look = {port, POLLIN};

    return poll(&look, 1, 0) >= 0 && !(look.revents & POLLHUP);
}

/* Pass on what there is to read; false at the end of it. The port takes what it can at a time. */
static int pass_on(int from, int to)
{
    unsigned char data[4096];
    ssize_t got = read(from, data, sizeof data), done = 0;

    if (got <= 0)
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    while (done < got) {
        struct pollfd room = {to, POLLOUT};
        ssize_t written = write(to, data + done, got - done);
        if (written > 0)
            done += written;
        else if (errno != EAGAIN && errno != EINTR)
            return 0;
        else if (poll(&room, 1, 1000) < 0 || room.revents & POLLHUP)
            return 0;
    }
    return 1;
}

/* Join port and server until one of them hangs up. */
static void join(int port, int server)
{
    struct pollfd sides[2] = {{port, POLLIN}, {server, POLLIN}};

    for (;;) {
        if (poll(sides, 2, -1) < 0 && errno != EINTR)
            return;
        if (sides[0].revents & POLLIN && !pass_on(port, server))
            return;
        if (sides[1].revents & (POLLIN | POLLHUP) && !pass_on(server, port))
            return;
        if (sides[0].revents & (POLLHUP | POLLERR))
            return;
    }
}

static void relay(const char *name, const char *path)
{
    int port, server;

    block_sigio();
    while ((port = open_port(name)) < 0)
        sleep(1);
    for (;;) {
        while (!host_is_there(port))
            wait_for_host(RELAY_SECONDS);
        server = connect_to(path);
        if (server >= 0) {
            join(port, server);
            close(server);
        } else {
            usleep(50000); /* it is starting */
        }
    }
}

int main(int count, char **arguments)
{
    umask(022);
    if (count == 2 && !strcmp(arguments[1], "boot"))
        return boot();
    if (count == 2 && !strcmp(arguments[1], "serve"))
        serve();
    if (count == 4 && !strcmp(arguments[1], "relay"))
        relay(arguments[2], arguments[3]);
    fprintf(stderr, "usage: appcat-guest boot|serve|relay PORT SOCKET (level " LEVEL ")\n");
    return 2;
}
