package job

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
)

// timeoutError is the cause of a context that the `timeout` input ended.
type timeoutError time.Duration

func (d timeoutError) Error() string {
	return fmt.Sprintf("not finished after %s, the limit of `timeout`", time.Duration(d))
}

// interrupted puts the reason in the place of an error that is only the echo
// of the context's end.
func interrupted(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	cause := context.Cause(ctx)
	var timeout timeoutError
	var signal process.Interrupt
	switch {
	case errors.As(cause, &timeout):
		doing, _, _ := strings.Cut(err.Error(), ": ") // what went wrong then is the time-out
		return fault.New(fault.Unreachable, fmt.Errorf("%s: %w", doing, timeout),
			"check that the server can be reached from this runner, or raise `timeout`")
	case errors.As(cause, &signal):
		return fmt.Errorf("%w: nothing was published", signal)
	case stopped(ctx):
		return fmt.Errorf("%w: nothing was published", cause)
	}
	return err
}

// signalled returns an error if a signal or a stop has ended ctx: what came to its
// end all the same, such as the shipping of records, must not be published.
func signalled(ctx context.Context) error {
	var signal process.Interrupt
	if errors.As(context.Cause(ctx), &signal) || stopped(ctx) {
		return ctx.Err()
	}
	return nil
}

// stopped reports whether ctx ended because the run was stopped.
func stopped(ctx context.Context) bool { return isStop(context.Cause(ctx)) }

func isStop(err error) bool {
	_, ok := errors.AsType[stopError](err)
	return ok
}

// ExitStatus returns the status of a run that ended in err.
func ExitStatus(err error) int {
	var signal process.Interrupt
	if isStop(err) {
		signal.Signal = syscall.SIGTERM // which the command got
	} else if !errors.As(err, &signal) {
		return int(fault.ClassOf(err))
	}
	return signal.Status()
}
