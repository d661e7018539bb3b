package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/process"
	"github.com/oidc-dbt/oidc-dbt/internal/provider"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

// A lease is what ends with the run, and how its end is recorded.
type lease struct {
	credential.Lease
	id  string // the credential's
	run audit.Run
	log string // the audit log's path
}

// leases are those of a run: the first credential's, and of every renewal. All
// end with it, and none before: a session that began under an old one may
// still be at work.
type leases struct {
	dir folder // where post finds them

	mu   sync.Mutex
	list []*lease
}

// add takes in the lease of c, if it has one. After an error c must not be
// used: post would not find its lease, so that it is ended at once.
func (ls *leases) add(ctx context.Context, env Env, c credential.Credential, r *records) error {
	if c.Lease == nil {
		return nil
	}
	l := &lease{Lease: *c.Lease, id: c.ID, run: r.run, log: r.path}
	err := ls.dir.keep(l)
	if err != nil {
		ended := provider.Revoke(ctx, env.provider(), l.Lease)
		if err = errors.Join(err, ended, ls.dir.forget(l)); ended == nil {
			return err
		}
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.list = append(ls.list, l)
	return err
}

// end ends every lease. The error is for a warning; of a run that has none,
// or did not get that far, there is none.
func (ls *leases) end(ctx context.Context, env Env) error {
	if ls == nil {
		return nil
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var errs []error
	for _, l := range ls.list {
		err := l.end(ctx, env)
		if err == nil {
			err = ls.dir.forget(l)
		}
		errs = append(errs, err)
	}
	ls.list = nil
	return errors.Join(errs...)
}

// end ends the lease and records it. The error is for a warning.
func (l *lease) end(ctx context.Context, env Env) error {
	release := process.Hold(ctx)
	err := provider.Revoke(ctx, env.provider(), l.Lease)
	release()
	log, lerr := audit.Open(l.log)
	if lerr != nil {
		return errors.Join(err, lerr)
	}
	return errors.Join(err, log.Append(l.run.Revoked(env.Now(), l.id, err)), log.Close())
}

// leaseFiles hold, in the step's folder, what post needs: another process,
// which the runner gives nothing but state values, and those it would log.
const leaseFiles = "lease-*.json"

func (l *lease) file() string { return strings.Replace(leaseFiles, "*", l.run.ID, 1) }

// keptLease is a lease on the disk. The claims of the run are not in it:
// verified claims do not come from a file.
type keptLease struct {
	Address      string `json:"address"`
	Namespace    string `json:"namespace,omitempty"`
	CACert       string `json:"ca_cert,omitempty"`
	Token        string `json:"token"`
	ID           string `json:"id"`
	AuditLog     string `json:"audit_log"`
	AuditID      string `json:"audit_id"`
	Target       string `json:"target"`
	Provider     string `json:"provider"`
	Audience     string `json:"audience"`
	PolicyOrigin string `json:"policy_origin"`
	PolicySHA256 string `json:"policy_sha256"`
}

// keep writes the lease for post.
func (f folder) keep(l *lease) error {
	if f.path == "" {
		return nil
	}
	text, err := json.Marshal(keptLease{
		Address: l.Address, Namespace: l.Namespace, CACert: l.CACert, Token: l.Token.Reveal(), ID: l.id, AuditLog: l.log,
		AuditID: l.run.ID, Target: l.run.Target, Provider: l.run.Provider, Audience: l.run.Audience, PolicyOrigin: l.run.PolicyOrigin, PolicySHA256: l.run.PolicySHA256,
	})
	if err != nil {
		return err
	}
	_, err = f.write(l.file(), text)
	return err
}

// kept returns the leases that keep wrote; the error is of those that could
// not be read.
func (f folder) kept(env Env) (*leases, error) {
	all := &leases{dir: f}
	if f.path == "" {
		return all, nil
	}
	paths, err := filepath.Glob(filepath.Join(f.path, leaseFiles))
	errs := []error{err}
	for _, path := range paths {
		l, err := readLease(path, env.Version)
		if err != nil {
			errs = append(errs, fmt.Errorf("read %s: %w", filepath.Base(path), cause(err)))
			continue
		}
		l.run.ExtraCA = env.Transport.Network().ExtraCA()
		all.list = append(all.list, l)
	}
	return all, errors.Join(errs...)
}

func readLease(path, version string) (*lease, error) {
	text, err := disk.ReadOwn(path, maxOwn)
	if err != nil {
		return nil, err
	}
	var k keptLease
	if err := json.Unmarshal(text, &k); err != nil {
		return nil, errors.New("it is not as it was written") // the decoder's words may quote the token
	}
	return &lease{
		Lease: credential.Lease{Address: k.Address, Namespace: k.Namespace, CACert: k.CACert, Token: secret.New(k.Token)},
		id:    k.ID, log: k.AuditLog,
		run: audit.Run{
			ID: k.AuditID, Version: version, PolicyOrigin: k.PolicyOrigin, PolicySHA256: k.PolicySHA256,
			Target: k.Target, Provider: k.Provider, Audience: k.Audience,
		},
	}, nil
}

// forget removes the file of a lease that has ended.
func (f folder) forget(l *lease) error {
	if f.path == "" {
		return nil
	}
	err := os.Remove(filepath.Join(f.path, l.file()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
