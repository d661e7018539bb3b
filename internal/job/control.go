package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// A stopError is why a run was ended with all that it had the warehouse do.
type stopError struct{ error }

func (s stopError) Unwrap() error { return s.error }

// errStopped is the cause of what `oidc-dbt stop` has ended.
var errStopped = stopError{errors.New("stopped by `oidc-dbt stop`")}

// controlFile says, in a run's folder, how the run is ended.
const controlFile = "control.json"

// A keptControl is a Control on the disk.
type keptControl struct {
	Address string    `json:"address"`
	Secret  string    `json:"secret"`
	Dir     string    `json:"dir"`
	Target  string    `json:"target"` // "" before one was chosen
	PID     int       `json:"pid"`    // for the reader: nothing is ended by it
	Started time.Time `json:"started"`
	Place   string    `json:"place"` // where the address is this process's: see place

	failed error // why it was not read, or not stopped
}

// A Control is how post and `oidc-dbt stop` end a run, from the moment that it
// has a folder.
type Control struct {
	channel *broker.Control
	own     chan struct{} // closed when the run ends itself
	kept    keptControl
	folders []Folder // with the control file, the run's own first
	cancel  context.CancelCauseFunc
	quit    chan struct{}
	stop    chan struct{} // closed when the command is to end
	done    chan struct{} // closed when nothing is left to do for a caller

	mu     sync.Mutex
	run    *Result // once there is a credential
	why    error   // of Halt, a stopError
	halted error   // likewise, or errStopped: what ended the run
	early  int     // callers without the secret before that
}

// Controlled makes the Control of the run in a folder. The context ends when the
// run is stopped, and until Serves also when it is ended. Close it last.
func Controlled(ctx context.Context, env Env, dir Folder, target string) (context.Context, *Control, error) {
	c := &Control{folders: []Folder{dir}, own: make(chan struct{}),
		quit: make(chan struct{}), stop: make(chan struct{}), done: make(chan struct{})}
	var err error
	if c.channel, err = broker.NewControl(c.refused, env.Now); err != nil {
		return ctx, nil, err
	}
	c.kept = keptControl{Address: c.channel.Address(), Secret: c.channel.Secret().Reveal(), Dir: dir.path, Target: target,
		PID: os.Getpid(), Started: env.Now().UTC(), Place: place()}
	if filepath.Dir(dir.path) != filepath.Clean(env.TempDir) {
		if sign, err := signpost(ctx, env); err == nil { // else only who names the folder can stop the run
			c.folders = append(c.folders, sign)
		}
	}
	ctx, c.cancel = context.WithCancelCause(ctx)
	go c.watch()
	if err := c.write(); err != nil {
		c.Close()
		return ctx, nil, err
	}
	return ctx, c, nil
}

// signpost makes a folder where `oidc-dbt stop` looks, for a run whose own folder
// is elsewhere.
func signpost(ctx context.Context, env Env) (Folder, error) {
	sweepFolders(ctx, env, func(Folder) {})
	f, err := NewFolder(env.TempDir)
	if err == nil {
		f.lock, _ = disk.Hold(filepath.Join(f.path, lockFile))
	}
	return f, err
}

func (c *Control) write() error {
	text, err := json.Marshal(c.kept)
	for _, f := range c.folders {
		if err == nil {
			err = disk.Replace(filepath.Join(f.path, controlFile), text)
		}
	}
	return err
}

// refused records callers without the secret.
func (c *Control) refused(count int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == nil {
		c.early += count
	} else if c.run.Refused != nil {
		c.run.Refused(count)
	}
}

// Serves says what the run has, which is stopped with it. The error is of a run
// that was stopped meanwhile.
func (c *Control) Serves(res Result) error {
	c.mu.Lock()
	halted, early := c.halted, c.early
	c.run, c.early = &res, 0
	c.mu.Unlock()
	if early > 0 {
		c.refused(early)
	}
	if halted != nil {
		c.halt(res, halted)
		return halted
	}
	if c.kept.Target == res.Target {
		return nil
	}
	c.kept.Target = res.Target
	return c.write()
}

// Ended is closed when post has asked for the end of the run.
func (c *Control) Ended() <-chan struct{} { return c.channel.Given(broker.End) }

// Halt ends the run as `oidc-dbt stop` does, since it must not go on. It does not
// wait for that.
func (c *Control) Halt(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why == nil {
		c.why = stopError{why}
		close(c.own)
	}
}

// Stopped waits until the run has been stopped, where somebody has asked for
// that, and returns why; else it returns nil.
func (c *Control) Stopped() error {
	select {
	case <-c.channel.Given(broker.Halt):
	case <-c.own:
	default:
		return nil
	}
	<-c.done
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.halted
}

// watch does what callers ask for.
func (c *Control) watch() {
	defer close(c.done)
	ended := c.Ended()
	for {
		select {
		case <-c.quit:
			return
		case <-ended:
			ended = nil
			if _, serves := c.serves(nil); !serves {
				c.cancel(process.Interrupt{Signal: syscall.SIGTERM})
			}
		case <-c.own:
			c.mu.Lock()
			why := c.why
			c.mu.Unlock()
			c.end(why)
			return
		case <-c.channel.Given(broker.Halt):
			c.end(errStopped)
			return
		}
	}
}

// end ends the run, or has Serves do it.
func (c *Control) end(why error) {
	res, serves := c.serves(why)
	c.cancel(why)
	if serves {
		c.halt(res, why)
	}
}

// serves returns what the run has, if it has that yet; halted is why it ends.
func (c *Control) serves(halted error) (res Result, serves bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.halted = halted
	if c.run == nil {
		return res, false
	}
	return *c.run, true
}

// haltFirst is how long the command goes on while the warehouse is told to cancel
// its statements, so that it is told why they end. Who was just denied a statement
// has all of it: there may be nothing to cancel, and it has a denial to show.
const haltFirst = time.Second

// halt ends what the run has at the warehouse, lets the command end, and records it.
func (c *Control) halt(res Result, why error) {
	halted := make(chan struct{})
	go func() {
		res.Broker.Halt(why)
		close(halted)
	}()
	first := time.After(haltFirst)
	if errors.Is(why, errStopped) {
		select {
		case <-halted:
		case <-first:
		}
	} else {
		<-first
	}
	close(c.stop)
	<-halted
	if res.Halted != nil {
		res.Halted(why)
	}
}

// Close ends the listener and removes the files. A caller waits on for the end of
// the process.
func (c *Control) Close() {
	close(c.quit)
	<-c.done
	c.channel.Close()
	_ = os.Remove(filepath.Join(c.folders[0].path, controlFile)) // it may have gone with its folder
	for _, sign := range c.folders[1:] {
		_ = sign.Remove() // the next start tries again
	}
	c.cancel(nil)
}

// readControl reads the control file of a run's folder; an error is without the
// path, and fs.ErrNotExist where the folder has none.
func readControl(dir string) (c keptControl, err error) {
	text, err := disk.ReadSecret(filepath.Join(dir, controlFile), MaxFile)
	if err == nil && json.Unmarshal(text, &c) != nil {
		err = errors.New("the file is corrupt") // the decoder's words may quote the secret
	}
	if _, aerr := netip.ParseAddrPort(c.Address); err == nil && (aerr != nil || c.Secret == "" || c.Dir == "") {
		err = errors.New("the file is not of a run")
	}
	if err != nil {
		return c, fmt.Errorf("read %s: %w", controlFile, disk.Cause(err))
	}
	return c, nil
}

// errElsewhere is why nothing is known of a run: its folder is shared, its loopback
// is not.
var errElsewhere = errors.New("it runs in another container or network namespace, or on another machine: call `oidc-dbt stop` there")

// place names the loopback of this process: the machine, and on Linux the network
// namespace. It outlives a restart of the machine, after which no run is left.
func place() string {
	machine, _ := os.Hostname()
	namespace, _ := os.Readlink("/proc/self/ns/net")
	return machine + " " + namespace
}

// ask gives the run an order, and waits as long as ctx for what broker.Ask waits for.
func (c keptControl) ask(ctx context.Context, order broker.Order) error {
	err := broker.Ask(ctx, order, c.Address, secret.New(c.Secret))
	if errors.Is(err, broker.ErrGone) && c.Place != place() {
		return errElsewhere
	}
	return err
}

// endTimeout is how long a run may take to end its credential and itself.
const endTimeout = 30 * time.Second

// endBy bounds what a caller waits for by endTimeout.
func endBy(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), endTimeout, fmt.Errorf("not finished after %s", endTimeout))
}

// EndRun ends the process that keeps the folder's credential fresh, where there is
// one, and waits until it is gone.
func (f Folder) EndRun(ctx context.Context) error {
	if f.path == "" {
		return nil
	}
	c, err := readControl(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // there was none, or it has ended
	}
	if err != nil {
		return err
	}
	ctx, cancel := endBy(ctx)
	defer cancel()
	defer process.Hold(ctx)()
	err = c.ask(ctx, broker.End)
	if errors.Is(err, broker.ErrGone) {
		err = fmt.Errorf("%w, and the credential was not renewed since then", err)
	}
	if err != nil {
		return fmt.Errorf("end the background process: %w", err)
	}
	return nil
}
