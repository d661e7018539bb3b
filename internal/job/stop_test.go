package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/broker"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// A stopping is a machine on which runs are stopped.
type stopping struct {
	t    *testing.T
	env  Env
	temp string
	out  bytes.Buffer
}

func newStopping(t *testing.T) *stopping {
	t.Helper()
	s := &stopping{t: t, temp: t.TempDir()}
	s.env = Env{Now: time.Now, TempDir: s.temp, Dir: s.temp, Stdout: &s.out, Getenv: func(string) string { return "" }}
	return s
}

// folder makes the folder of a step.
func (s *stopping) folder(temp string) Folder {
	s.t.Helper()
	f, err := NewFolder(temp)
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

// run begins one for a target; its process never ends.
func (s *stopping) run(temp, target string) (context.Context, *Control) {
	s.t.Helper()
	ctx, c, err := Controlled(s.t.Context(), s.env, s.folder(temp), target)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return ctx, c
}

// left makes what a process leaves that was killed.
func (s *stopping) left(target string) Folder {
	s.t.Helper()
	f := s.folder(s.temp)
	_, c, err := Controlled(s.t.Context(), s.env, f, target)
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(f.path, controlFile))
	if err != nil {
		s.t.Fatal(err)
	}
	c.Close()
	if _, err := f.Write(controlFile, text); err != nil {
		s.t.Fatal(err)
	}
	return f
}

// stop returns what it says, and its error with its hint.
func (s *stopping) stop(ctx context.Context, o StopSettings) (status int, said string) {
	s.t.Helper()
	s.out.Reset()
	status, err := Stop(ctx, s.env, o)
	if err == nil {
		return status, s.out.String()
	}
	return int(fault.ClassOf(err)), s.out.String() + fault.WithHint(err)
}

const stillRunning = "\nhint: it may still be running: end its process; `oidc-dbt trust revoke` ends it at the warehouse"

// TestStopFindsNothing that it trusts.
func TestStopFindsNothing(t *testing.T) {
	t.Parallel()
	windows := runtime.GOOS == "windows" // there are no modes
	for name, tt := range map[string]struct {
		make   func(t *testing.T, s *stopping) StopSettings
		status int
		says   string // $TEMP is the temporary folder, $HINT the hint where nothing is found
	}{
		"nothing": {func(*testing.T, *stopping) StopSettings { return StopSettings{} }, 3, "no run of yours was found in \"$TEMP\"$HINT\n"},
		"nothing, of all": {func(t *testing.T, s *stopping) StopSettings {
			other := t.TempDir()
			s.env.Getenv = func(name string) string { return map[string]string{"RUNNER_TEMP": other}[name] }
			return StopSettings{All: true}
		}, 3, "no run of yours was found in \"$TEMP\" and \"$OTHER\"$HINT\n"},
		"a step that has ended": {func(_ *testing.T, s *stopping) StopSettings {
			return StopSettings{Dir: s.folder(s.temp).path}
		}, 3, "no run of yours was found in \"$DIR\"$HINT\n"},
		"no folder": {func(*testing.T, *stopping) StopSettings { return StopSettings{Dir: "nowhere"} }, 3,
			"no run of yours was found in \"nowhere\"$HINT\n"},
		"a file": {func(t *testing.T, s *stopping) StopSettings {
			if err := os.WriteFile(filepath.Join(s.temp, "file"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return StopSettings{Dir: "file"}
		}, 2, "flag --dir: \"file\": not a folder\nhint: name the folder of a run, such as the --dir of `oidc-dbt serve`"},
		"a corrupt file": {func(t *testing.T, s *stopping) StopSettings {
			f := s.folder(s.temp)
			if _, err := f.Write(controlFile, []byte(`{"secret":"marked`)); err != nil {
				t.Fatal(err)
			}
			return StopSettings{Dir: f.path}
		}, 2, "flag --dir: \"$DIR\": read control.json: the file is corrupt\nhint: name the folder of a run, such as the --dir of `oidc-dbt serve`"},
		"a file of no run": {func(t *testing.T, s *stopping) StopSettings {
			f := s.folder(s.temp)
			if _, err := f.Write(controlFile, []byte(`{}`)); err != nil {
				t.Fatal(err)
			}
			return StopSettings{Dir: f.path}
		}, 2, "flag --dir: \"$DIR\": read control.json: the file is not of a run\nhint: name the folder of a run, such as the --dir of `oidc-dbt serve`"},
		"a file of no run, of all": {func(t *testing.T, s *stopping) StopSettings {
			f := s.folder(s.temp)
			if _, err := f.Write(controlFile, []byte(`{"address":"marked","secret":"marked","dir":"elsewhere"}`)); err != nil {
				t.Fatal(err)
			}
			return StopSettings{All: true}
		}, 1, "stop the run (folder \"$DIR\"): read control.json: the file is not of a run" + stillRunning},
		"a corrupt file, of all": {func(t *testing.T, s *stopping) StopSettings {
			f := s.folder(s.temp)
			if _, err := f.Write(controlFile, []byte(`{"secret":"marked`)); err != nil {
				t.Fatal(err)
			}
			return StopSettings{All: true}
		}, 1, "stop the run (folder \"$DIR\"): read control.json: the file is corrupt" + stillRunning},
		"an open folder": {func(t *testing.T, s *stopping) StopSettings {
			_, c := s.run(s.temp, "prod")
			if err := os.Chmod(c.kept.Dir, 0o755); err != nil {
				t.Fatal(err)
			}
			return StopSettings{Dir: c.kept.Dir}
		}, 2, "flag --dir: \"$DIR\": is accessible to other users (-rwxr-xr-x)\nhint: name the folder of a run, such as the --dir of `oidc-dbt serve`"},
		"an open folder, of all": {func(t *testing.T, s *stopping) StopSettings {
			_, c := s.run(s.temp, "prod")
			if err := os.Chmod(c.kept.Dir, 0o755); err != nil {
				t.Fatal(err)
			}
			return StopSettings{All: true}
		}, 3, "no run of yours was found in \"$TEMP\"$HINT\n"},
		"an open file": {func(t *testing.T, s *stopping) StopSettings {
			_, c := s.run(s.temp, "prod")
			if err := os.Chmod(filepath.Join(c.kept.Dir, controlFile), 0o644); err != nil {
				t.Fatal(err)
			}
			return StopSettings{All: true}
		}, 1, "stop the run (folder \"$DIR\"): read control.json: is accessible to other users (-rw-r--r--), want mode 0600" + stillRunning},
		"a link": {func(t *testing.T, s *stopping) StopSettings {
			_, c := s.run(t.TempDir(), "prod")
			link := filepath.Join(s.temp, "oidc-dbt-step-link")
			if err := os.Symlink(c.kept.Dir, link); err != nil {
				t.Fatal(err)
			}
			return StopSettings{Dir: link}
		}, 2, "flag --dir: \"$DIR\": not a folder\nhint: name the folder of a run, such as the --dir of `oidc-dbt serve`"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if windows && (strings.Contains(name, "open") || name == "a link") {
				return
			}
			s := newStopping(t)
			o := tt.make(t, s)
			dir := o.Dir
			if folders, _ := filepath.Glob(filepath.Join(s.temp, dirPattern)); dir == "" && len(folders) > 0 {
				dir = folders[0]
			}
			want := strings.NewReplacer("$TEMP", s.temp, "$OTHER", s.env.Getenv("RUNNER_TEMP"), "$DIR", dir, "$HINT", notFound).Replace(tt.says)
			if status, said := s.stop(t.Context(), o); status != tt.status || said != want {
				t.Errorf("status is %d, want %d; it says\n%s\nwant\n%s", status, tt.status, said, want)
			}
		})
	}
}

// TestStopOfAnothersFolder: what is in the folder of another user is not believed.
func TestStopOfAnothersFolder(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" || os.Geteuid() != 0 { // only root may give a folder away
		return
	}
	s := newStopping(t)
	ctx, c := s.run(s.temp, "prod")
	if err := os.Chown(c.kept.Dir, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("flag --dir: %q: is owned by user 12345, want 0, the user running this program\n"+
		"hint: name the folder of a run, such as the --dir of `oidc-dbt serve`", c.kept.Dir)
	if status, said := s.stop(t.Context(), StopSettings{Dir: c.kept.Dir}); status != 2 || said != want {
		t.Errorf("status is %d; it says\n%s\nwant\n%s", status, said, want)
	}
	if status, said := s.stop(t.Context(), StopSettings{All: true}); status != 3 || ctx.Err() != nil {
		t.Errorf("status is %d; it says %s", status, said)
	}
}

// TestStopStops the runs that were chosen: their contexts end with the reason, and
// a process that does not end is said to be running. No secret is printed.
func TestStopStops(t *testing.T) {
	t.Parallel()
	s := newStopping(t)
	elsewhere := t.TempDir() // found by its signpost
	first, a := s.run(s.temp, "")
	second, b := s.run(elsewhere, "prod")
	left := s.left("dev")
	names := []string{a.kept.String(), b.kept.String()}
	if want := fmt.Sprintf("no target yet, process %d, folder %q", os.Getpid(), a.kept.Dir); names[0] != want {
		t.Errorf("the first is %s, want %s", names[0], want)
	}

	want := "2 runs are found:\n" + strings.Join(names, "\n") + "\nhint: name the folder of one with --dir, or stop all with --all"
	if status, said := s.stop(t.Context(), StopSettings{}); status != 2 || said != want {
		t.Errorf("status is %d; it says\n%s\nwant\n%s", status, said, want)
	}
	if first.Err() != nil || second.Err() != nil {
		t.Fatal("a run was stopped that was not chosen")
	}

	ended := func(c *Control) context.Context { // the wait is over when the run is being stopped
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			<-c.channel.Given(broker.Halt)
			cancel(fmt.Errorf("not finished after %s", endTimeout))
		}()
		return ctx
	}
	want = "stop the run (" + names[1] + "): not finished after 30s" + stillRunning
	if status, said := s.stop(ended(b), StopSettings{Dir: b.kept.Dir}); status != 1 || said != want {
		t.Errorf("status is %d; it says\n%s\nwant\n%s", status, said, want)
	}
	if <-second.Done(); first.Err() != nil || context.Cause(second).Error() != "stopped by `oidc-dbt stop`" {
		t.Errorf("the second ends with %v", context.Cause(second))
	}

	notRunning := fmt.Sprintf("not running: target \"dev\", process %d, folder %q: its process had ended without removing the folder\n", os.Getpid(), left.path)
	if status, said := s.stop(t.Context(), StopSettings{Dir: left.path}); status != 0 || said != notRunning {
		t.Errorf("status is %d; it says\n%s\nwant\n%s", status, said, notRunning)
	}
	status, said := s.stop(ended(a), StopSettings{All: true})
	if status != 1 || !strings.Contains(said, "stop the run ("+names[0]+"): ") {
		t.Errorf("status is %d; it says\n%s", status, said)
	}
	<-first.Done()
	if strings.Contains(said, a.kept.Secret) || strings.Contains(said, b.kept.Secret) {
		t.Error("it prints a secret")
	}
	if got := ExitStatus(a.Stopped()); got != 143 {
		t.Errorf("the run's status is %d, want 143", got)
	}
	a.Close()
	b.Close()
	a.quit, b.quit = make(chan struct{}), make(chan struct{}) // for the clean-up
	if status, said := s.stop(t.Context(), StopSettings{}); status != 0 || said != notRunning {
		t.Errorf("of what is left: status is %d; it says\n%s\nwant\n%s", status, said, notRunning)
	}
	if left, err := os.ReadDir(elsewhere); err != nil || len(left) != 1 {
		t.Errorf("the folder of a step has gone: %v, %v", left, err)
	}
}

// TestStopOfAnother: who has the port of a run, or its file, does not pass for it.
func TestStopOfAnother(t *testing.T) {
	t.Parallel()
	s := newStopping(t)
	ctx, c := s.run(s.temp, "prod")
	forged := c.kept
	forged.Secret = strings.Repeat("x", len(forged.Secret))
	c.kept, forged = forged, c.kept
	if err := c.write(); err != nil {
		t.Fatal(err)
	}
	want := "stop the run (" + c.kept.String() + "): what listens there does not know the secret" + stillRunning
	if status, said := s.stop(t.Context(), StopSettings{}); status != 1 || said != want {
		t.Errorf("status is %d; it says\n%s\nwant\n%s", status, said, want)
	}
	c.kept.Address = "192.0.2.1:80"
	if err := c.write(); err != nil {
		t.Fatal(err)
	}
	want = "stop the run (" + c.kept.String() + "): address is \"192.0.2.1:80\", want one on loopback" + stillRunning
	if status, said := s.stop(t.Context(), StopSettings{}); status != 1 || said != want {
		t.Errorf("status is %d; it says\n%s\nwant\n%s", status, said, want)
	}
	if ctx.Err() != nil {
		t.Error("the run was stopped")
	}
}

// TestStopElsewhere: where nothing listens, a run of another network namespace or
// machine is not taken for one that has ended.
func TestStopElsewhere(t *testing.T) {
	t.Parallel()
	s := newStopping(t)
	left := s.left("prod")
	c, err := readControl(left.path)
	if err != nil {
		t.Fatal(err)
	}
	c.Place = "elsewhere net:[1]"
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := left.Write(controlFile, text); err != nil {
		t.Fatal(err)
	}
	want := "stop the run (" + c.String() + "): " + errElsewhere.Error() + stillRunning
	for _, o := range []StopSettings{{}, {All: true}, {Dir: left.path}} {
		if status, said := s.stop(t.Context(), o); status != 1 || said != want {
			t.Errorf("%+v: status is %d; it says\n%s\nwant\n%s", o, status, said, want)
		}
	}
}

// TestStopMeanwhile: a stop between the credential and the command ends both, once.
func TestStopMeanwhile(t *testing.T) {
	t.Parallel()
	s := newStopping(t)
	ctx, c := s.run(s.temp, "prod")
	wait, cancel := context.WithCancel(t.Context())
	go func() {
		<-ctx.Done()
		cancel()
	}()
	_, _ = s.stop(wait, StopSettings{All: true})
	var why []error
	<-c.done
	err := c.Serves(Result{Target: "prod", Halted: func(err error) { why = append(why, err) }})
	if err == nil || err.Error() != "stopped by `oidc-dbt stop`" || len(why) != 1 {
		t.Errorf("the error is %v, recorded %v", err, why)
	}
	select {
	case <-c.stop:
	default:
		t.Error("the command may go on")
	}
}

// TestStopRemovesWhatIsLeft of a process that was killed, as the next start would,
// and ends its leases.
func TestStopRemovesWhatIsLeft(t *testing.T) {
	t.Parallel()
	s, l := newStopping(t), newLender(t)
	s.env.Transport = l.env.Transport
	f := s.left("dev")
	if err := os.WriteFile(filepath.Join(f.path, lockFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c, r := l.lend(t)
	if err := (&leases{dir: f}).add(t.Context(), l.env, c, r); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("not running: target \"dev\", process %d, folder %q: its process had ended without removing the folder, which is removed now\n",
		os.Getpid(), f.path)
	if status, said := s.stop(t.Context(), StopSettings{Dir: f.path}); status != 0 || said != want {
		t.Errorf("status is %d; it says\n%s\nwant\n%s", status, said, want)
	}
	l.checkEnded(t, 1)
	if status, _ := s.stop(t.Context(), StopSettings{Dir: f.path}); status != NoRun {
		t.Errorf("once more: status is %d, want %d", status, NoRun)
	}
}

// TestHalt: a run that ends itself ends like one that is stopped, with its own
// reason: also before it has a credential, and only once.
func TestHalt(t *testing.T) {
	t.Parallel()
	s := newStopping(t)
	for name, before := range map[string]bool{"before the credential": true, "with one": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &stopping{t: t, temp: s.temp, env: s.env}
			ctx, c := s.run(s.temp, "prod")
			if c.Stopped() != nil {
				t.Error("it was stopped before")
			}
			var recorded []error
			res := Result{Target: "prod", Halted: func(err error) { recorded = append(recorded, err) }}
			cause := fault.New(fault.Internal, errors.New("too many denials"), "look at the records")
			halt := func() {
				c.Halt(cause)
				c.Halt(errors.New("another"))
			}
			if before {
				halt()
				<-ctx.Done()
			}
			if err := c.Serves(res); (err != nil) != before {
				t.Fatal(err)
			}
			if !before {
				halt()
			}
			err := c.Stopped()
			if err == nil || fault.WithHint(err) != "too many denials\nhint: look at the records" || ExitStatus(err) != 143 {
				t.Errorf("it ends with %v", err)
			}
			if got := context.Cause(ctx); got != err { //nolint:errorlint // it is the same
				t.Errorf("its context ends with %v", got)
			}
			if len(recorded) != 1 || recorded[0].Error() != "too many denials" {
				t.Errorf("recorded %v", recorded)
			}
			select {
			case <-c.stop:
			default:
				t.Error("the command may go on")
			}
		})
	}
}
