package broker

import (
	"bytes"
	"context"
	"path/filepath"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
)

// How often the credential is looked at: a tenth of its life, since a renewal
// begins when a third is left, and within these.
const (
	lookPart              = 10
	lookLeast, lookAtMost = 200 * time.Millisecond, time.Minute
)

// keep writes the service's file, and has it rewritten ahead of each expiry.
// Of a route that does not listen, or is to be ahead, it is also what has the
// credential renewed, since nobody asks for it in time.
func (b *Broker) keep(ctx context.Context) error {
	ahead := b.service.ahead || b.config.Ahead || !b.address.IsValid()
	if b.service.file == nil && !ahead {
		return nil
	}
	c, err := b.config.Current(ctx)
	if err != nil {
		return err
	}
	if b.service.file != nil {
		b.file = filepath.Join(b.config.Dir, b.service.file.name)
	}
	written, err := b.rewrite(c, nil)
	if err != nil {
		return err
	}
	if !ahead {
		return nil // the file leads to the listener, and stays as it is
	}
	b.running.Go(func() {
		for {
			life := c.Expiry.Sub(b.config.Now())
			select {
			case <-ctx.Done():
				return
			case <-time.After(min(max(life/lookPart, lookLeast), lookAtMost)):
			}
			next, err := b.config.Current(ctx)
			if err != nil {
				continue // whoever renews has told of it
			}
			c = next
			if written, err = b.rewrite(c, written); err != nil {
				b.config.Failed(err)
			}
		}
	})
	return nil
}

// rewrite has the file hold what it must of c, where that is not what it
// holds already, and returns that. A reader sees the old file or the new one.
func (b *Broker) rewrite(c credential.Credential, written []byte) ([]byte, error) {
	f := b.service.file
	if f == nil {
		return nil, nil
	}
	content, err := f.content(c)
	if err != nil || bytes.Equal(content, written) {
		return written, err
	}
	if err := disk.Replace(b.file, content); err != nil {
		return written, err
	}
	return content, nil
}
