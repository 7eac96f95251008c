/*
 * The floor: what counting over HTTP costs when nothing is parsed.
 *
 * A request is whatever ends with a blank line. Each adds one and is answered
 * with its number, in an answer of the same shape as counterd's. GET /count at
 * the very start of a request reads without counting; a request line that is
 * split inside those first bytes is taken for a hit. There are no limits, no
 * timeouts and no bodies: this is a yardstick, not a server to run.
 *
 * usage: epoll [--file PATH] PORT [THREADS]
 *
 * Port 0 takes a free one; "listening PORT" on stdout says that it is up. With
 * several threads each has its own epoll and its own SO_REUSEPORT socket, so the
 * kernel spreads the connections.
 *
 * With --file it is the durable floor: what one turn of epoll brought is written
 * as one record of 32 bytes, in turn to one of two blocks of 4 KiB, and synced,
 * and only then answered. One thread does all of it, and nothing is handed over.
 * The file is made anew at each start: what is in it is never read again.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	READ_SIZE = 64 << 10,
	ANSWER_MAX = 256,
	READ_ANSWERS = (READ_SIZE / 4 + 1) * ANSWER_MAX, /* of one read, at most */
	WRITE_SIZE = 2 * READ_ANSWERS,			 /* touched as far as it is used */
	BLOCK = 4096,
	EVENTS = 512,
	BACKLOG = 4096,
};

/* What must survive between two reads of one connection. */
struct conn {
	char *unsent; /* an answer the socket did not take at once */
	uint32_t unsent_len;
	uint8_t matched; /* how much of "\r\n\r\n" the last read ended with */
	uint8_t inside;	 /* a request has begun */
	uint8_t reading; /* ... and it is GET /count */
};

/* Answers in worker.out that wait for the disk. */
struct owed {
	int fd;
	size_t from, to;
};

struct worker {
	int listener, epoll;
	time_t now;
	char head[ANSWER_MAX]; /* everything before the length */
	size_t head_len;
	char tail[ANSWER_MAX]; /* everything between the length and the body */
	size_t tail_len;
	char in[READ_SIZE];
	char out[WRITE_SIZE];
	size_t out_len;
	struct owed owed[EVENTS];
	int owing;
};

static struct conn *conns; /* by descriptor */
static int max_fd;
static int threads = 1;
static uint64_t hits;
static int file = -1; /* the durable floor's */

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t count_one(void)
{
	if (threads == 1)
		return ++hits;
	return __atomic_add_fetch(&hits, 1, __ATOMIC_RELAXED);
}

static uint64_t count_now(void)
{
	return __atomic_load_n(&hits, __ATOMIC_RELAXED);
}

static void refresh_date(struct worker *w)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME_COARSE, &ts);
	if (ts.tv_sec == w->now)
		return;
	w->now = ts.tv_sec;
	struct tm tm;
	gmtime_r(&w->now, &tm);
	w->tail_len = strftime(w->tail, sizeof w->tail,
		"\r\nDate: %a, %d %b %Y %H:%M:%S GMT\r\n"
		"Cache-Control: no-store\r\n\r\n", &tm);
}

static char *put(char *at, const char *bytes, size_t n)
{
	memcpy(at, bytes, n);
	return at + n;
}

/* Appends one answer; the caller has made sure that ANSWER_MAX bytes are free. */
static void answer(struct worker *w, uint64_t number)
{
	char digits[20];
	char *first = digits + sizeof digits;
	do
		*--first = '0' + number % 10;
	while (number /= 10);
	size_t n = digits + sizeof digits - first;

	char *at = put(w->out + w->out_len, w->head, w->head_len);
	size_t length = n + 1;
	if (length >= 10)
		*at++ = '0' + length / 10;
	*at++ = '0' + length % 10;
	at = put(at, w->tail, w->tail_len);
	at = put(at, first, n);
	*at++ = '\n';
	w->out_len = at - w->out;
}

static void drop(struct worker *w, int fd)
{
	(void)w;
	free(conns[fd].unsent);
	memset(&conns[fd], 0, sizeof conns[fd]);
	close(fd);
}

static void watch(struct worker *w, int op, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.fd = fd};
	epoll_ctl(w->epoll, op, fd, &ev);
}

/* Keeps what the socket did not take, and reads nothing more until it did. */
static int keep(struct worker *w, int fd, const char *bytes, size_t n)
{
	struct conn *c = &conns[fd];
	char *grown = realloc(c->unsent, c->unsent_len + n);
	if (!grown)
		return -1;
	memcpy(grown + c->unsent_len, bytes, n);
	if (!c->unsent_len)
		watch(w, EPOLL_CTL_MOD, fd, EPOLLOUT);
	c->unsent = grown;
	c->unsent_len += n;
	return 0;
}

/* Sends answers to a client that may still owe us the room for earlier ones. */
static int give(struct worker *w, int fd, const char *bytes, size_t n)
{
	size_t sent = 0;
	if (!conns[fd].unsent_len) {
		ssize_t took = send(fd, bytes, n, MSG_NOSIGNAL);
		if (took < 0 && errno != EAGAIN)
			return -1;
		sent = took < 0 ? 0 : took;
	}
	return sent == n ? 0 : keep(w, fd, bytes + sent, n - sent);
}

static int writable(struct worker *w, int fd)
{
	struct conn *c = &conns[fd];
	ssize_t took = send(fd, c->unsent, c->unsent_len, MSG_NOSIGNAL);
	if (took < 0)
		return errno == EAGAIN ? 0 : -1;
	c->unsent_len -= took;
	memmove(c->unsent, c->unsent + took, c->unsent_len);
	if (c->unsent_len)
		return 0;
	free(c->unsent);
	c->unsent = NULL;
	watch(w, EPOLL_CTL_MOD, fd, EPOLLIN);
	return 0;
}

/* Returns the first byte after the blank line, or NULL when it is not here yet. */
static char *blank_line(struct conn *c, char *at, char *end)
{
	static const char blank[] = "\r\n\r\n";
	while (c->matched && at < end) {
		if (*at != blank[c->matched]) {
			c->matched = 0; /* this byte may begin another one */
			break;
		}
		at++;
		if (++c->matched == sizeof blank - 1) {
			c->matched = 0;
			return at;
		}
	}
	if (c->matched)
		return NULL;
	char *found = memmem(at, end - at, blank, 4);
	if (found)
		return found + 4;
	size_t left = end - at;
	for (size_t n = left < 3 ? left : 3; n > 0; n--)
		if (!memcmp(end - n, blank, n)) {
			c->matched = n;
			break;
		}
	return NULL;
}

static int readable(struct worker *w, int fd)
{
	static const char read_line[] = "GET /count ";
	struct conn *c = &conns[fd];
	ssize_t n = recv(fd, w->in, sizeof w->in, 0);
	if (n <= 0)
		return n < 0 && errno == EAGAIN ? 0 : -1;

	size_t from = w->out_len;
	char *at = w->in, *end = w->in + n;
	while (at < end) {
		if (!c->inside) {
			size_t left = end - at;
			c->inside = 1;
			c->reading = left >= sizeof read_line - 1 &&
				     !memcmp(at, read_line, sizeof read_line - 1);
		}
		at = blank_line(c, at, end);
		if (!at)
			break;
		c->inside = 0;
		answer(w, c->reading ? count_now() : count_one());
	}
	if (w->out_len == from)
		return 0;
	if (file >= 0) {
		w->owed[w->owing++] = (struct owed){fd, from, w->out_len};
		return 0;
	}
	size_t all = w->out_len;
	w->out_len = 0;
	return give(w, fd, w->out, all);
}

/* Writes and syncs the count, unless all of it is on disk already. */
static void commit(void)
{
	static struct { uint64_t magic, sequence, value, check; } record = {.magic = 0x726f6f6c66};
	if (record.value == hits)
		return;
	record.sequence++;
	record.value = hits;
	record.check = record.magic ^ record.sequence ^ record.value;
	off_t at = record.sequence % 2 * BLOCK;
	if (pwrite(file, &record, sizeof record, at) != sizeof record || fdatasync(file))
		die("commit");
}

/* Makes durable what this turn counted, and answers it. */
static void settle(struct worker *w)
{
	if (!w->owing)
		return;
	commit();
	for (int i = 0; i < w->owing; i++) {
		struct owed *o = &w->owed[i];
		if (give(w, o->fd, w->out + o->from, o->to - o->from) < 0)
			drop(w, o->fd);
	}
	w->owing = 0;
	w->out_len = 0;
}

static void accept_all(struct worker *w)
{
	int one = 1;
	for (;;) {
		int fd = accept4(w->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		if (fd >= max_fd) {
			close(fd);
			continue;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		watch(w, EPOLL_CTL_ADD, fd, EPOLLIN);
	}
}

static void *serve(void *arg)
{
	struct worker *w = arg;
	struct epoll_event events[EVENTS];
	for (;;) {
		int n = epoll_wait(w->epoll, events, EVENTS, -1);
		refresh_date(w);
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			if (fd == w->listener) {
				accept_all(w);
				continue;
			}
			if (w->out_len > WRITE_SIZE - READ_ANSWERS)
				settle(w); /* this turn is too long for one answer to all */
			int gone = events[i].events & EPOLLOUT ? writable(w, fd) : readable(w, fd);
			if (gone < 0)
				drop(w, fd);
		}
		settle(w);
	}
	return NULL;
}

static struct worker *prepare(in_port_t *port)
{
	struct worker *w = calloc(1, sizeof *w);
	if (!w)
		die("calloc");
	static const char head[] = "HTTP/1.1 200 OK\r\n"
		"Content-Type: text/plain; charset=utf-8\r\nContent-Length: ";
	w->head_len = sizeof head - 1;
	memcpy(w->head, head, w->head_len);

	int one = 1;
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = *port,
	};
	socklen_t len = sizeof addr;
	w->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (w->listener < 0)
		die("socket");
	setsockopt(w->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (threads > 1)
		setsockopt(w->listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
	if (bind(w->listener, (struct sockaddr *)&addr, sizeof addr))
		die("bind");
	if (listen(w->listener, BACKLOG))
		die("listen");
	if (getsockname(w->listener, (struct sockaddr *)&addr, &len))
		die("getsockname");
	*port = addr.sin_port;

	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (w->epoll < 0)
		die("epoll_create1");
	watch(w, EPOLL_CTL_ADD, w->listener, EPOLLIN);
	return w;
}

static void create(const char *path)
{
	static const char empty[2 * BLOCK];
	file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (file < 0)
		die(path);
	if (write(file, empty, sizeof empty) != sizeof empty || fsync(file))
		die(path);
}

static int usage(void)
{
	fprintf(stderr, "usage: epoll [--file PATH] PORT [THREADS]\n");
	return 2;
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "--file")) {
		create(argv[2]);
		argv += 2;
		argc -= 2;
	}
	if (argc < 2)
		return usage();
	in_port_t port = htons(atoi(argv[1]));
	if (argc > 2)
		threads = atoi(argv[2]);
	if (threads < 1)
		threads = 1;
	if (file >= 0 && threads > 1)
		return usage();
	signal(SIGPIPE, SIG_IGN);

	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit))
		die("getrlimit");
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	max_fd = limit.rlim_cur < (1 << 20) ? (int)limit.rlim_cur : 1 << 20;
	conns = calloc(max_fd, sizeof *conns);
	if (!conns)
		die("calloc");

	struct worker *first = prepare(&port);
	for (int i = 1; i < threads; i++) {
		pthread_t t;
		if (pthread_create(&t, NULL, serve, prepare(&port)))
			die("pthread_create");
	}
	printf("listening %d\n", ntohs(port));
	fflush(stdout);
	serve(first);
}
