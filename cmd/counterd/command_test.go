package main

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/counterd/counterd/engine"
)

func TestWrongCommandLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env  string
		args string // separated by spaces
		says string
	}{
		{args: "--colour", says: "unknown flag --colour"},
		{args: "--stor=postgres://u:s3cret@h/d", says: "unknown flag --stor"},
		{args: "-engine=std", says: "two dashes"},
		{args: "-store=postgres://u:s3cret@h/d", says: "two dashes"},
		{args: "serve", says: `"serve"`},
		{args: "postgres://u:s3cret@h/d", says: "postgres://"},
		{args: "--engine", says: "--engine needs a value"},
		{args: "--engine=", says: "--engine"},
		{args: "--engine=epoll", says: "gnet, goroutine, std"},
		{args: "--listen=8080", says: "--listen"},
		{args: "--listen=", says: "--listen"},
		{args: "--listen=127.0.0.1:", says: "--listen"},
		{args: "--listen=:65536", says: "--listen"},
		{args: "--listen=:-1", says: "--listen"},
		{args: "--loops=0", says: "--loops"},
		{args: "--loops=two", says: "--loops"},
		{args: "--loops=100000", says: "--loops"},
		{args: "--loops=2 --engine=std", says: "--loops needs --engine=gnet"},
		{args: "--loops=2 --engine=goroutine", says: "--loops needs --engine=gnet"},
		{args: "--store=", says: "--store"},
		{args: "--store=file:", says: "path"},
		{args: "--store=counterd.db", says: "file:PATH"},
		{args: "--store=mem:x", says: "mem:"},
		{args: "--store=postgres://u:s3cret@h:port/d", says: "--store"},
		{args: "--store=postgres://u:s3%cret@h/d", says: "--store"},
		{args: "--sync=sometimes", says: "--sync"},
		{args: "--sync=", says: "--sync"},
		{args: "--sync=0", says: "1ms"},
		{args: "--sync=999us", says: "1ms"},
		{args: "--sync=-1s", says: "1ms"},
		{args: "--sync=always --store=mem:", says: "--sync needs a file: or dir: store"},
		{args: "--sync=1s --store=postgres://u:s3cret@h/d", says: "--sync needs a file: or dir: store"},
		{args: "--takeover-timeout=0s --store=mem:", says: "--takeover-timeout needs a file: or dir: store"},
		{args: "--takeover-timeout=-1s", says: "--takeover-timeout"},
		{args: "--counter=default", says: "--counter needs a postgres:// store"},
		{args: "--counter=a --store=mem:", says: "--counter needs a postgres:// store"},
		{args: "--counter= --store=postgres://u:s3cret@h/d", says: "--counter"},
		{args: "--store-timeout=0s", says: "--store-timeout"},
		{args: "--store-timeout=5", says: "500ms"},
		{args: "--store=postgres://h/d?sslmode=verify-full&sslrootcert=/no/ca.pem", says: "/no/ca.pem"},
		{args: "--admin=8081", says: "--admin"},
		{args: "--read-timeout=0s", says: "--read-timeout"},
		{args: "--write-timeout=-1s", says: "--write-timeout"},
		{args: "--idle-timeout=soon", says: "--idle-timeout"},
		{args: "--max-header-bytes=0", says: "--max-header-bytes"},
		{args: "--max-header-bytes=16k", says: "--max-header-bytes"},
		{args: "--max-body-bytes=-1", says: "--max-body-bytes"},
		{args: "--max-body-bytes=9223372036854775808", says: "--max-body-bytes"},
		{args: "--max-conns=0", says: "--max-conns"},
		{args: "--drain-timeout=0s", says: "--drain-timeout"},
		{args: "--reuse-port=perhaps", says: "--reuse-port"},
		{args: "--reuse-port yes", says: `"yes"`},
		{args: "--log-format=xml", says: "text, json"},
		{args: "--log-level=loud", says: "--log-level"},

		{env: "COUNTERD_ENGINE=", says: "COUNTERD_ENGINE"},
		{env: "COUNTERD_ENGINE=epoll", says: "COUNTERD_ENGINE"},
		{env: "COUNTERD_LOOPS=", says: "COUNTERD_LOOPS"},
		{env: "COUNTERD_STORE=postgres://u:s3cret@h:port/d", says: "COUNTERD_STORE"},
		{env: "COUNTERD_REUSE_PORT=", says: "COUNTERD_REUSE_PORT"},
		{env: "COUNTERD_SYNC=never", args: "--store=mem:", says: "COUNTERD_SYNC"},
		{env: "COUNTERD_STORE=mem:", args: "--sync=1s", says: "--sync needs a file: or dir: store"},
		{env: "COUNTERD_ADMIN=x", args: "health", says: "COUNTERD_ADMIN"},

		{args: "health now", says: `"now"`},
		{args: "health --engine=std", says: "--engine"},
		{args: "store", says: "show, set, list, load or drop"},
		{args: "store get file:x", says: "show, set, list, load or drop"},
		{args: "store show", says: "store show STORE"},
		{args: "version now", says: `"now"`},

		{args: "--per=name", says: "all, path"},
		{args: "--per=path --store=file:x", says: "--per=path needs dir:PATH, mem: or a postgres:// URL"},
		{args: "--store=dir:x", says: "dir:PATH needs --per=path"},
		{env: "COUNTERD_STORE=dir:x", says: "dir:PATH needs --per=path"},
		{env: "COUNTERD_STORE=file:x", args: "--per=path", says: "--per=path needs"},
		{env: "COUNTERD_PER=path", args: "--store=file:x", says: "--per=path needs"},
		{args: "--store=dir:", says: "path"},
		{args: "--max-counters=5", says: "--max-counters needs --per=path"},
		{args: "--per=path --max-counters=0", says: "--max-counters"},
		{args: "--per=path --max-counters=1099511627777", says: "--max-counters"},
		{args: "--per=path --counter=x", says: "--counter needs a postgres:// store"},
		{args: "--drain-delay=-1s", says: "--drain-delay"},
		{args: "--drain-delay=5", says: "--drain-delay"},
		{args: "--cors=example.com", says: "scheme"},
		{args: "--cors=https://example.com/", says: "ends with the host"},
		{args: "--cors=https://u:p@example.com", says: "ends with the host"},
		{args: "--cors=https://Example.com", says: "lower case"},
		{args: "--cors=HTTPS://example.com", says: "lower case"},
		{args: "--cors=https://example.com:443", says: "own port"},
		{args: "--cors=https://example.com:", says: "--cors"},
		{args: "--cors=https://a.example,https://b.example", says: "--cors"},
		{args: "--cors=https://*.example.com", says: "--cors"},
		{args: "--cors=null", says: "scheme"},
		{args: "store show file:x /a", says: "single counter"},
		{args: "store show file:x /a /b", says: "store show STORE"},
		{args: "store set file:x /a 1", says: "single counter"},
		{args: "store set dir:x 1", says: "which counter"},
		{args: "store set dir:x a 1", says: "begin with /"},
		{args: "store set dir:x /count/a 1", says: "reads are made"},
		{args: "store list file:x", says: "single counter"},
		{args: "store load file:x", says: "single counter"},
		{args: "store list mem:", says: "memory"},
		{args: "store drop file:x", says: "store drop STORE NAME..."},
		{args: "store drop file:x /a", says: "single counter"},
		{args: "store show mem:", says: "mem:"},
		{args: "store show postgres://u:s3cret@h:port/d", says: "postgres://"},
		{args: "store show x", says: "file:PATH"},
		{args: "store set file:x", says: "store set STORE [NAME] VALUE"},
		{args: "store set file:x -1", says: "-1"},
		{args: "store set file:x 1.5", says: "1.5"},
		{args: "store set file:x 9223372036854775808", says: "9223372036854775807"},
		{args: "store set file:x 1 --counter=a", says: "--counter needs"},
		{args: "completion tcsh", says: "zsh"},
		{args: "completion bash now", says: `"now"`},
		{args: "help me", says: `"me"`},
	} {
		t.Run(c.env+" "+c.args, func(t *testing.T) {
			t.Parallel()
			var env []string
			if c.env != "" {
				env = []string{c.env}
			}
			r := run(t, env, strings.Fields(c.args)...)
			r.wantFailure(t, 2, c.says)
			if !strings.HasPrefix(r.stderr, "counterd: ") {
				t.Errorf("%q doesn't say who speaks", r.stderr)
			}
		})
	}
}

// wantStartFailure runs counterd with a start that must fail.
func wantStartFailure(t *testing.T, says string, args ...string) {
	t.Helper()
	free := []string{"--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--store=mem:"}
	r := run(t, nil, append(free, args...)...)
	r.wantFailure(t, 1, says)
	if !strings.Contains(r.stderr, `level=ERROR msg="cannot start" err=`) {
		t.Errorf("%q is no log line", r.stderr)
	}
}

func TestCannotStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign")
	if err := os.WriteFile(foreign, []byte("Dear diary, "), 0o600); err != nil {
		t.Fatal(err)
	}
	held := filepath.Join(dir, "held.db")
	begin(t, "--store=file:"+held)

	wantStartFailure(t, addr, "--listen="+addr)
	wantStartFailure(t, addr, "--admin="+addr)
	wantStartFailure(t, "203.0.113.1", "--listen=203.0.113.1:0") // not ours
	wantStartFailure(t, foreign, "--store=file:"+foreign)
	wantStartFailure(t, dir, "--store=file:"+dir)
	wantStartFailure(t, "nowhere", "--store=file:"+dir+"/nowhere/x.db")
	wantStartFailure(t, held, "--store=file:"+held)
	wantStartFailure(t, held, "--store=file:"+held, "--takeover-timeout=50ms", "--log-level=warn")
	// Nobody listens on a port that was given back.
	taken.Close()
	wantStartFailure(t, "store", "--store=postgres://u:s3cret@"+addr+"/d", "--store-timeout=100ms", "--log-level=error")
	run(t, nil, "store", "show", "postgres://u:s3cret@"+addr+"/d", "--store-timeout=100ms").wantFailure(t, 1, "store")
	if got, err := os.ReadFile(foreign); err != nil || string(got) != "Dear diary, " {
		t.Errorf("a foreign file was touched: %q, %v", got, err)
	}
}

// TestListeningLine: the line that scripts wait for, for every engine.
func TestListeningLine(t *testing.T) {
	t.Parallel()
	for _, e := range []string{engine.Gnet, engine.Goroutine, engine.Std} {
		for _, store := range []string{"mem:", "file:counterd.db", "file:" + filepath.Join(t.TempDir(), "x.db")} {
			p := begin(t, "--engine="+e, "--store="+store)
			line := regexp.MustCompile(`(?m)msg=listening listen=127\.0\.0\.1:([1-9]\d*) admin=127\.0\.0\.1:([1-9]\d*) engine=` + e +
				` store=` + regexp.QuoteMeta(store) + ` count=0$`)
			if !line.MatchString(p.Log()) {
				t.Errorf("no line %s in\n%s", line, p.Log())
			}
			for i, want := range []string{"1", "2", "3"} {
				if got := p.get("/anything"); got != want {
					t.Errorf("%s: hit %d got %s", e, i, got)
				}
			}
			if got := p.get("/count"); got != "3" {
				t.Errorf("%s: count %s", e, got)
			}
			p.Stop()
		}
	}
}

func TestListensOnBothFamilies(t *testing.T) {
	t.Parallel()
	p := begin(t, "--listen=:0", "--store=mem:")
	_, port, err := net.SplitHostPort(p.listen)
	if err != nil {
		t.Fatal(err)
	}
	hosts := []string{"127.0.0.1"}
	if ln, err := net.Listen("tcp6", "[::1]:0"); err == nil {
		ln.Close()
		hosts = append(hosts, "::1")
	}
	for _, host := range hosts {
		if code, body := get(t, "http://"+net.JoinHostPort(host, port)+"/count"); code != 200 {
			t.Errorf("%s: %d %s", host, code, body)
		}
	}
}

func TestFlagsFromTheEnvironment(t *testing.T) {
	t.Parallel()
	p := listening(t, command([]string{
		"COUNTERD_ENGINE=std", "COUNTERD_STORE=mem:", "COUNTERD_REUSE_PORT=false",
		"COUNTERD_LISTEN=not used, a flag beats it",
		"COUNTERD_LOOPS=3", "COUNTERD_SYNC=100ms", "COUNTERD_COUNTER=x", "COUNTERD_TAKEOVER_TIMEOUT=1s", // don't apply here
		"COUNTERD_SERVICE_HOST=10.0.0.1", "COUNTERD_PORT=tcp://10.0.0.1:80", // Kubernetes' own
	}))
	p.Await(`engine=std store=mem:`)
	if strings.Contains(p.Log(), "level=WARN") {
		t.Error(p.Log())
	}

	p = listening(t, command([]string{"COUNTERD_STOER=s3cret", "COUNTERD_=", "COUNTERD_STORE=mem:", "COUNTERD_ADMIN_PORT_8081_TCP=tcp://10.0.0.1:8081",
		"COUNTERD_SERVICE_PORT_HTTP=80", "COUNTERD_A_SERVICE_HOST=10.0.0.1", "MY_COUNTERD_X=1"}))
	if n := strings.Count(p.Log(), "level=WARN"); n != 1 || strings.Contains(p.Log(), "s3cret") {
		t.Errorf("%d warnings: %s", n, p.Log())
	}
	p.Await(`level=WARN msg="variables that no flag has are ignored" names="COUNTERD_ COUNTERD_STOER"\n`)

	cmd := command([]string{"COUNTERD_ADMIN=", "COUNTERD_STORE=mem:"})
	cmd.Args = append([]string{binary}, "--listen=127.0.0.1:0") // without --admin
	if p := listening(t, cmd); p.admin != "off" {
		t.Errorf("an empty COUNTERD_ADMIN: admin=%s", p.admin)
	}
}

func TestLogFormatAndLevel(t *testing.T) {
	t.Parallel()
	p := launch(t, command(nil, "--store=mem:", "--log-format=json"))
	p.Await(`"msg":"listening","listen":"127.0.0.1:\d+","admin":"127.0.0.1:\d+","engine":"gnet","store":"mem:","count":0}`)
	ln := listenTCP(t)
	quiet := launch(t, activated(t, ln, nil, "--store=mem:", "--log-level=error"))
	if code, body := get(t, "http://"+ln.Addr().String()); code != 200 || body != "1\n" {
		t.Errorf("%d %s", code, body)
	}
	quiet.Stop()
	if log := quiet.Log(); log != "" {
		t.Errorf("it should be quiet: %s", log)
	}
	r := run(t, nil, "--store=file:/nowhere/x", "--listen=127.0.0.1:0", "--admin=", "--log-format=json")
	r.wantFailure(t, 1, `"level":"ERROR","msg":"cannot start"`)
}

func TestHelp(t *testing.T) {
	t.Parallel()
	r := run(t, nil, "--help")
	if r.code != 0 || r.stderr != "" {
		t.Errorf("code %d, stderr %q", r.code, r.stderr)
	}
	var c config
	for _, o := range options(&c) {
		if !strings.Contains(r.stdout, "--"+o.name+" ") || !strings.Contains(r.stdout, o.env()) {
			t.Errorf("it doesn't explain --%s or %s", o.name, o.env())
		}
	}
	for _, g := range groups {
		if !strings.Contains(r.stdout, "\n"+g+":\n") {
			t.Errorf("no group %q", g)
		}
	}
	for _, line := range strings.Split(r.stdout, "\n") {
		if len(line) > 100 {
			t.Errorf("too wide: %q", line)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"--version", "version"} {
		r := run(t, nil, args)
		if r.code != 0 || !regexp.MustCompile(`^counterd \S+, go1\.\S+, \S+/\S+`).MatchString(r.stdout) {
			t.Errorf("%s: code %d, %q", args, r.code, r.stdout)
		}
	}
}

// TestDefaultsAreTheContracts holds the command line to its contract.
func TestDefaultsAreTheContracts(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"engine": "gnet", "listen": ":8080", "loops": "GOMAXPROCS", "store": "file:counterd.db", "sync": "always",
		"counter": "default", "store-timeout": "5s", "admin": "127.0.0.1:8081", "read-timeout": "10s",
		"write-timeout": "10s", "idle-timeout": "75s", "max-header-bytes": "16384", "max-body-bytes": "1048576",
		"max-conns": "what the limit of file descriptors allows, less a reserve", "drain-timeout": "10s",
		"reuse-port": "false", "per": "all", "max-counters": "1000000", "cors": "", "drain-delay": "0s", "takeover-timeout": "0s", "log-format": "text", "log-level": "info",
	}
	var c config
	opts := options(&c)
	for _, o := range opts {
		if o.value.text != want[o.name] {
			t.Errorf("--%s: default %q, want %q", o.name, o.value.text, want[o.name])
		}
	}
	if len(opts) != len(want) {
		t.Errorf("%d flags, want %d", len(opts), len(want))
	}
}

func TestStoreIsNamedWithoutSecrets(t *testing.T) {
	t.Parallel()
	for store, want := range map[string]string{
		"file:a b.db":                 "file:a b.db",
		"mem:":                        "mem:",
		"dir:a/b":                     "dir:a/b",
		"postgres://u:s3cret@h/d":     "postgres://h:5432/d",
		"postgresql://u:s3cret@h:1/d": "postgres://h:1/d",
		"postgres://h/d?password=s3cret&sslmode=disable":                  "postgres://h:5432/d",
		"postgres://u:s3cret@h1:1,h2:2/d?target_session_attrs=read-write": "postgres://h1:1,h2:2/d",
	} {
		if got := (&config{Store: store}).storeName(); got != want {
			t.Errorf("storeName(%q) = %q, want %q", store, got, want)
		}
	}
}

func TestDescriptorsAreShared(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		descriptors        uint64
		engine             int
		conns, most, admin int
	}{
		{20000, 30, 19744, 19888, 64},
		{1 << 62, 30, 1<<31 - 1, 1<<31 - 1, 64},
		{1024, 30, 768, 912, 64},
		{1024, 300, 704, 704, 2},
		{150, 30, 75, 84, 18},
		{64, 30, 14, 14, 2},
		{16, 30, 1, 1, 2},
		{0, 30, 1, 1, 2},
	} {
		conns, most, admin := share(c.descriptors, c.engine)
		if conns != c.conns || most != c.most || admin != c.admin {
			t.Errorf("share(%d, %d) = %d, %d, %d; want %d, %d, %d", c.descriptors, c.engine, conns, most, admin, c.conns, c.most, c.admin)
		}
	}
}
