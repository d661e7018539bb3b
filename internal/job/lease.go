package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

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
	id     string // the credential's
	static bool   // the credential lives on: only the login that read it ends
	run    audit.Run
	log    string // the audit log's path
}

// leases are those of a run: the first credential's, and of every renewal. A
// session that began under an old one may still be at work, so that one ends
// with the run, or once it has expired.
type leases struct {
	dir Folder // where post finds them

	mu      sync.Mutex
	list    []*lease       // the oldest first
	expired sync.WaitGroup // those of which the login is being ended
}

// add takes in the lease of c, if it has one. After an error c must not be
// used: post would not find its lease, so that it is ended at once.
func (ls *leases) add(ctx context.Context, env Env, c credential.Credential, r *records) error {
	if c.Lease == nil {
		return nil
	}
	l := &lease{Lease: *c.Lease, id: c.ID, static: c.Static, run: r.run, log: r.path}
	err := ls.dir.keep(l)
	if err != nil {
		ended := provider.Revoke(ctx, env.provider(), l.Lease)
		if err = errors.Join(err, ended, ls.dir.forget(l)); ended == nil {
			return err
		}
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.drop(ctx, env)
	ls.list = append(ls.list, l)
	return err
}

// grace is how long after its expiry a lease is over for the server, too,
// which counts from a little later.
const grace = 5 * time.Second

// drop takes out what has expired: a run of days would pile it up. Where only
// the secret's own lease has, the login above it is ended.
func (ls *leases) drop(ctx context.Context, env Env) {
	now := env.Now().Add(-grace)
	over := func(t credential.Term) bool { return !t.Expiry.IsZero() && t.Expiry.Before(now) }
	ls.list = slices.DeleteFunc(ls.list, func(l *lease) bool {
		switch {
		case over(l.Login):
			_ = ls.dir.forget(l) // post would only find it gone
		case over(l.Secret):
			ls.expired.Go(func() {
				if l.end(ctx, env) == nil { // else post tries again
					_ = ls.dir.forget(l)
				}
			})
		default:
			return false
		}
		return true
	})
}

// renewed takes in the new terms of a lease.
func (ls *leases) renewed(next credential.Lease) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range ls.list {
		if l.Token.SHA256() == next.Token.SHA256() {
			l.Lease = next
		}
	}
}

// atOnce is how many leases are ended at the same time: a run of hours may
// have hundreds, and a runner that ends waits for seconds.
const atOnce = 8

// end ends every lease, the newest first: its credential lives longest. The
// error is for a warning; of a run that has none, or did not get that far,
// there is none.
func (ls *leases) end(ctx context.Context, env Env) error {
	if ls == nil {
		return nil
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.drop(ctx, env)
	defer ls.expired.Wait()
	errs := make([]error, len(ls.list))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(atOnce, len(ls.list)) {
		workers.Go(func() {
			for i := range next {
				l := ls.list[i]
				if errs[i] = l.end(ctx, env); errs[i] == nil {
					errs[i] = ls.dir.forget(l)
				}
			}
		})
	}
	for i := len(ls.list) - 1; i >= 0; i-- {
		next <- i
	}
	close(next)
	workers.Wait()
	ls.list = nil
	slices.Reverse(errs)
	return errors.Join(errs...)
}

// end ends the lease and records the end of its credential. The error is for a
// warning.
func (l *lease) end(ctx context.Context, env Env) error {
	release := process.Hold(ctx)
	err := provider.Revoke(ctx, env.provider(), l.Lease)
	release()
	if l.static {
		return err
	}
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
	ClientCert   string `json:"client_cert_file,omitempty"`
	ClientKey    string `json:"client_key_file,omitempty"`
	Token        string `json:"token"`
	ID           string `json:"id"`
	Static       bool   `json:"static,omitempty"`
	AuditLog     string `json:"audit_log"`
	AuditID      string `json:"audit_id"`
	Target       string `json:"target"`
	Provider     string `json:"provider"`
	Audience     string `json:"audience"`
	PolicyOrigin string `json:"policy_origin"`
	PolicySHA256 string `json:"policy_sha256"`
}

// keep writes the lease for post.
func (f Folder) keep(l *lease) error {
	if f.path == "" {
		return nil
	}
	text, err := json.Marshal(keptLease{
		Address: l.Address, Namespace: l.Namespace, CACert: l.CACert, ClientCert: l.ClientCert, ClientKey: l.ClientKey,
		Token: l.Token.Reveal(), ID: l.id, Static: l.static, AuditLog: l.log,
		AuditID: l.run.ID, Target: l.run.Target, Provider: l.run.Provider, Audience: l.run.Audience,
		PolicyOrigin: l.run.PolicyOrigin, PolicySHA256: l.run.PolicySHA256,
	})
	if err != nil {
		return err
	}
	_, err = f.Write(l.file(), text)
	return err
}

// kept returns the leases that keep wrote; the error is of those that could
// not be read.
func (f Folder) kept(env Env) (*leases, error) {
	all := &leases{dir: f}
	if f.path == "" {
		return all, nil
	}
	paths, err := filepath.Glob(filepath.Join(f.path, leaseFiles))
	errs := []error{err}
	for _, path := range paths {
		l, err := readLease(path, env.Version)
		if err != nil {
			errs = append(errs, fmt.Errorf("read %s: %w", filepath.Base(path), disk.Cause(err)))
			continue
		}
		l.run.ExtraCA = env.Transport.Network().ExtraCA()
		all.list = append(all.list, l)
	}
	return all, errors.Join(errs...)
}

// EndLeases ends the leases of which the folder has files: those of another
// process. warn is told of each that could not be read or ended.
func (f Folder) EndLeases(ctx context.Context, env Env, warn func(error)) {
	all, err := f.kept(env)
	for _, err := range []error{err, all.end(ctx, env)} {
		if err != nil {
			warn(err)
		}
	}
}

func readLease(path, version string) (*lease, error) {
	text, err := disk.ReadOwn(path, MaxFile)
	if err != nil {
		return nil, err
	}
	var k keptLease
	if err := json.Unmarshal(text, &k); err != nil {
		return nil, errors.New("the file is corrupt") // the decoder's words may quote the token
	}
	return &lease{
		Lease: credential.Lease{Provider: k.Provider, Address: k.Address, Namespace: k.Namespace, CACert: k.CACert,
			ClientCert: k.ClientCert, ClientKey: k.ClientKey, Token: secret.New(k.Token)},
		id: k.ID, static: k.Static, log: k.AuditLog,
		run: audit.Run{
			ID: k.AuditID, Version: version, PolicyOrigin: k.PolicyOrigin, PolicySHA256: k.PolicySHA256,
			Target: k.Target, Provider: k.Provider, Audience: k.Audience,
		},
	}, nil
}

// forget removes the file of a lease that has ended.
func (f Folder) forget(l *lease) error {
	if f.path == "" {
		return nil
	}
	err := os.Remove(filepath.Join(f.path, l.file()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
