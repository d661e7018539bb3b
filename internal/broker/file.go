package broker

import (
	"bytes"
	"context"
	"path/filepath"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
)

// How often the credential is checked: each tenth of its life, since it is renewed
// when a third is left, within these limits.
const (
	lookPart              = 10
	lookLeast, lookAtMost = 200 * time.Millisecond, time.Minute
)

// keep writes the service's file and rewrites it ahead of each expiry. For a
// route that does not listen, or that renews ahead, it also renews the
// credential, since no client requests it in time.
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
		return nil // the file refers to the listener and does not change
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
				continue // the Keeper has reported it
			}
			c = next
			if written, err = b.rewrite(c, written); err != nil {
				b.config.Failed(err)
			}
		}
	})
	return nil
}

// rewrite writes the file for c, unless its content is written already, and
// returns the content. A reader sees the old file or the new one.
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
