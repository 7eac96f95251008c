/*
 * The floor: what counting over HTTP costs when nothing is parsed.
 *
 * A request is whatever ends with a blank line. Each adds one and is answered
 * with its number, in an answer of the same shape as counterd's. GET /count at
 * the very start of a request reads without counting; a request line that is
 * split inside those first bytes is taken for a hit. There are no limits, no
 * timeouts and no bodies: this is a yardstick, not a server to run.
 *
 * usage: epoll PORT [THREADS]   port 0 takes a free one; prints "listening PORT"
 *
 * With several threads each has its own epoll and its own SO_REUSEPORT socket,
 * so the kernel spreads the connections.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
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
	WRITE_SIZE = 64 << 10,
	ANSWER_MAX = 256,
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
};

static struct conn *conns; /* by descriptor */
static int max_fd;
static int threads = 1;
static uint64_t hits;

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

static int flush(struct worker *w, int fd)
{
	size_t n = w->out_len, sent = 0;
	w->out_len = 0;
	if (!n)
		return 0;
	if (!conns[fd].unsent_len) {
		ssize_t took = send(fd, w->out, n, MSG_NOSIGNAL);
		if (took < 0 && errno != EAGAIN)
			return -1;
		sent = took < 0 ? 0 : took;
	}
	return sent == n ? 0 : keep(w, fd, w->out + sent, n - sent);
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
		if (w->out_len > WRITE_SIZE - ANSWER_MAX && flush(w, fd) < 0)
			return -1;
	}
	return flush(w, fd);
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
			int gone = events[i].events & EPOLLOUT ? writable(w, fd) : readable(w, fd);
			if (gone < 0)
				drop(w, fd);
		}
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

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: epoll PORT [THREADS]\n");
		return 2;
	}
	in_port_t port = htons(atoi(argv[1]));
	if (argc > 2)
		threads = atoi(argv[2]);
	if (threads < 1)
		threads = 1;
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
