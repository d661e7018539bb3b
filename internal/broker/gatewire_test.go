package broker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// TestLimits: the broker's own files stay free with any limit.
func TestLimits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		files                     uint64
		strangers, foreign, known int
		says                      string
	}{
		{0, 128, 8, 1024, "the broker accepts 1024 at a time"},
		{1 << 30, 128, 8, 1024, "the broker accepts 1024 at a time"},
		{3248, 128, 8, 1024, "the broker accepts 1024 at a time"},
		{1024, 128, 8, 282, "the limit of open files is 1024: raise it to 3248 with ulimit -n or LimitNOFILE, or use fewer threads"},
		{256, 54, 8, 51, "the limit of open files is 256: raise it to 3248 with ulimit -n or LimitNOFILE, or use fewer threads"},
		{64, 6, 1, 5, "the limit of open files is 64: raise it to 3248 with ulimit -n or LimitNOFILE, or use fewer threads"},
		{20, 4, 1, 1, "the limit of open files is 20: raise it to 3248 with ulimit -n or LimitNOFILE, or use fewer threads"},
	} {
		l := limitsOf(tt.files)
		if want := (limits{tt.files, tt.strangers, tt.foreign, tt.known}); l != want || l.String() != tt.says {
			t.Errorf("%d files: %v, %d, %d, %d, want %+v", tt.files, l, l.strangers, l.foreign, l.known, tt)
		}
		if used := uint64(ownFiles + l.strangers + l.foreign + filesEach*l.known); tt.files >= 64 && used > tt.files {
			t.Errorf("%d files: %d may be used", tt.files, used)
		}
	}
}

// gateOf starts a gate of a user's, and reports what is said of it.
func gateOf(t *testing.T, config gateConfig, own int) (g *gate, warned, refused func() int) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var warnings, refusals int
	config.now = time.Now
	config.refused = func() { mu.Lock(); defer mu.Unlock(); refusals++ }
	config.warn = func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if warnings++; warnings == 1 {
			want := fmt.Sprintf("connections are for user %d only, and this one is from user %d (--allow-uid %d allows it)", own, os.Getuid(), os.Getuid())
			if err.Error() != want {
				t.Errorf("warned %q, want %q", err, want)
			}
		}
	}
	g = newGate(listener, config)
	if runtime.GOOS == "linux" && !config.anyone && g.own != os.Getuid() {
		t.Errorf("the listener is user %d's, want %d", g.own, os.Getuid())
	}
	if own >= 0 {
		g.own = own
	}
	t.Cleanup(func() { g.Close() })
	read := func(n *int) func() int {
		return func() int { mu.Lock(); defer mu.Unlock(); return *n }
	}
	return g, read(&warnings), read(&refusals)
}

// TestOtherUsers: their connections are refused with a reason, even with the secret.
func TestOtherUsers(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		return // no other system reports the user of a connection
	}
	other := os.Getuid() + 1
	text := fmt.Sprintf("oidc-dbt: connections are for user %d only, and this one is from user %d (--allow-uid %d allows it)\n", other, os.Getuid(), os.Getuid())
	for _, tt := range []struct {
		name   string
		config gateConfig
		own    int
		in     bool
		says   string
	}{
		{"one's own", gateConfig{words: rawHTTP}, -1, true, ""},
		{"another's", gateConfig{words: rawHTTP}, other, false, "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: " + fmt.Sprint(len(text)) + "\r\n\r\n" + text},
		{"another's, without words", gateConfig{}, other, false, ""},
		{"another's who is allowed", gateConfig{words: rawHTTP, allow: []int{os.Getuid()}}, other, true, ""},
		{"any user's", gateConfig{anyone: true}, -1, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g, warned, refused := gateOf(t, tt.config, tt.own)
			accepted := make(chan net.Conn, 1)
			go func() {
				if c, err := g.Accept(); err == nil {
					accepted <- c
				}
			}()
			for _, network := range []string{"tcp4", "tcp6"} {
				to := g.Addr().String()
				if network == "tcp6" {
					to = strings.Replace(to, "127.0.0.1", "[::ffff:127.0.0.1]", 1)
				}
				conn, err := net.Dial(network, to)
				if network == "tcp6" && err != nil {
					if conn, err = net.Dial("tcp", to); err != nil {
						t.Fatal(err)
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if tt.in {
					select {
					case c := <-accepted:
						c.Close()
					case <-time.After(2 * time.Minute):
						t.Error("it was not let in")
					}
					return
				}
				reply, err := io.ReadAll(conn)
				if string(reply) != tt.says || err != nil {
					t.Errorf("it was told %q, %v, want %q", reply, err, tt.says)
				}
			}
			if warned() != 1 || refused() != 2 {
				t.Errorf("warned %d times, counted %d, want 1 and 2", warned(), refused())
			}
		})
	}
}

// TestOtherUsersOfPostgres: a client reads the words as the server's.
func TestOtherUsersOfPostgres(t *testing.T) {
	t.Parallel()
	for full, code := range map[bool]string{false: "C28000\x00", true: "C53300\x00"} {
		if got := string(rawPostgres(full, errors.New("no"))); !strings.HasPrefix(got, "E") || !strings.Contains(got, code) || !strings.Contains(got, "Moidc-dbt: no\x00") {
			t.Errorf("full %v: %q", full, got)
		}
	}
}

// failing is a listener that is out of descriptors for some tries.
type failing struct {
	net.Listener
	tries int
}

func (f *failing) Accept() (net.Conn, error) {
	if f.tries--; f.tries >= 0 {
		return nil, &net.OpError{Op: "accept", Err: errors.New("too many open files")}
	}
	return nil, net.ErrClosed
}

// TestAcceptFails: it is tried again, further and further apart, and told of once.
func TestAcceptFails(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var said []string
	g := newGate(&failing{listener, 6}, gateConfig{now: time.Now, warn: func(err error) { said = append(said, err.Error()) }})
	began := time.Now()
	if _, err := g.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("error is %v, want that of a closed listener", err)
	}
	if took := time.Since(began); took < 5*(1+2+4+8+16+32)*time.Millisecond {
		t.Errorf("six tries in %s", took)
	}
	if len(said) != 1 || !strings.HasPrefix(said[0], "accept a connection: accept: too many open files (") {
		t.Errorf("said %q", said)
	}
}

// TestBrokerRefusesOtherUsers: a broker's gate is asked of every route.
func TestBrokerRefusesOtherUsers(t *testing.T) {
	t.Parallel()
	for kind := range listening {
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		b := &Broker{config: Config{Route: route.Route{Kind: kind, Upstream: route.Upstream{Host: "warehouse.example", Port: 443}}, Now: time.Now, Dir: t.TempDir()}, secret: newSecret()}
		b.address = listener.Addr().(*net.TCPAddr).AddrPort()
		s, err := listening[kind](b)
		if err != nil {
			t.Fatal(err)
		}
		if words := s.words(); (words == nil) != s.tls {
			t.Errorf("%s: TLS is %v, and an error before any request is told: %v", kind, s.tls, words != nil)
		}
		if s.handler == nil {
			continue
		}
		// Without a connection of a gate's nothing is admitted, and nothing breaks.
		w := &recorder{header: http.Header{}}
		refuse := s.refuse
		if refuse == nil {
			refuse = brokerError
		}
		r, err := http.NewRequest("GET", "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "evil.example"
		guarded(b.address, time.Now, refuse, s.handler).ServeHTTP(w, r)
		if !strings.Contains(w.text.String(), "oidc-dbt: not a host of this broker") {
			t.Errorf("%s: %d, %s", kind, w.status, w.text.String())
		}
	}
}

type recorder struct {
	header http.Header
	status int
	text   strings.Builder
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(p []byte) (int, error) { return r.text.Write(p) }
