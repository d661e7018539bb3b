package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/oidc-dbt/oidc-dbt/internal/audit"
	"github.com/oidc-dbt/oidc-dbt/internal/credential"
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

// newLease returns nil for a credential that nothing ends.
func newLease(c credential.Credential, r *records) *lease {
	if c.Lease == nil {
		return nil
	}
	return &lease{Lease: *c.Lease, id: c.ID, run: r.run, log: r.path}
}

// end ends the lease and records it. The error is for a warning.
func (l *lease) end(ctx context.Context, env Env) error {
	if l == nil {
		return nil
	}
	err := provider.Revoke(ctx, provider.Env{HTTP: env.client(), Now: env.Now}, l.Lease)
	log, lerr := audit.Open(l.log)
	if lerr != nil {
		return errors.Join(err, lerr)
	}
	return errors.Join(err, log.Append(l.run.Revoked(env.Now(), l.id, err)), log.Close())
}

// leaseFile holds, in the step's folder, what post needs: another process,
// which the runner gives nothing but state values, and those it would log.
const leaseFile = "lease.json"

// maxLeaseFile bounds what is read of it: tokens are under 4 KiB, certificates under 64.
const maxLeaseFile = 1 << 20

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
	if l == nil {
		return nil
	}
	text, err := json.Marshal(keptLease{
		Address: l.Address, Namespace: l.Namespace, CACert: l.CACert, Token: l.Token.Reveal(), ID: l.id, AuditLog: l.log,
		AuditID: l.run.ID, Target: l.run.Target, Provider: l.run.Provider, Audience: l.run.Audience, PolicyOrigin: l.run.PolicyOrigin, PolicySHA256: l.run.PolicySHA256,
	})
	if err != nil {
		return err
	}
	_, err = f.write(leaseFile, text)
	return err
}

// kept returns the lease that keep wrote, nil where there is none.
func (f folder) kept(env Env) (*lease, error) {
	if f.path == "" {
		return nil, nil
	}
	path := filepath.Join(f.path, leaseFile)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file") // a link leads to somebody else's, a pipe never ends
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", leaseFile, cause(err))
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", leaseFile, cause(err))
	}
	defer file.Close()
	var k keptLease
	if err := json.NewDecoder(io.LimitReader(file, maxLeaseFile)).Decode(&k); err != nil {
		return nil, fmt.Errorf("read %s: it is not as it was written", leaseFile) // the decoder's words may quote the token
	}
	return &lease{
		Lease: credential.Lease{Address: k.Address, Namespace: k.Namespace, CACert: k.CACert, Token: secret.New(k.Token)},
		id:    k.ID, log: k.AuditLog,
		run: audit.Run{
			ID: k.AuditID, Version: env.Version, PolicyOrigin: k.PolicyOrigin, PolicySHA256: k.PolicySHA256,
			Target: k.Target, Provider: k.Provider, Audience: k.Audience,
		},
	}, nil
}

// forget removes the lease that has ended.
func (f folder) forget() error {
	err := os.Remove(filepath.Join(f.path, leaseFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
