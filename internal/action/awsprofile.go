package action

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/job"
)

// An awsProfile is a step's section in the file of shared credentials that all
// steps of a job write: AWS's tools read one file, and a job may need several
// sessions at the same time. No other file is touched.
//
// Each step keeps its section in a file of its own, and the shared one is made
// of those. Several processes do so at once (a step, and what keeps another's
// fresh), without a lock that one of them could leave behind.
type awsProfile struct {
	dir  string // of all steps
	file string // with this step's section

	mu     sync.Mutex
	expiry time.Time // of what was written last
}

// awsSection ends the name of a step's own file.
const awsSection = ".profile"

// profileOf returns the section of the step that has the folder.
func profileOf(folder string) *awsProfile {
	temp, name := filepath.Split(folder)
	return &awsProfile{dir: filepath.Join(temp, "oidc-dbt", "aws"), file: name + awsSection}
}

// Path is the shared file's.
func (p *awsProfile) path() string { return filepath.Join(p.dir, "credentials") }

// write puts the session into the section that is called like the target. An
// older session than the one that is there changes nothing.
func (p *awsProfile) write(target string, c credential.Credential) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.Expiry.Before(p.expiry) {
		return nil // a renewal overtook it
	}
	var section strings.Builder
	fmt.Fprintf(&section, "[%s]\n", target)
	for _, v := range []struct{ key, value string }{
		{"aws_access_key_id", c.AWS.AccessKeyID.Reveal()},
		{"aws_secret_access_key", c.AWS.SecretAccessKey.Reveal()},
		{"aws_session_token", c.AWS.SessionToken.Reveal()},
		{"region", c.AWS.Region},
	} {
		if strings.ContainsFunc(v.value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("write the AWS profile %q: %s contains invalid characters", target, v.key)
		}
		fmt.Fprintf(&section, "%s = %s\n", v.key, v.value)
	}
	err := os.MkdirAll(p.dir, 0o700)
	for _, dir := range []string{filepath.Dir(p.dir), p.dir} {
		if err == nil {
			err = disk.Own(dir) // its owner could replace the identity of the job's tools
		}
	}
	if err == nil {
		err = disk.Replace(filepath.Join(p.dir, p.file), []byte(section.String()))
	}
	if err == nil {
		err = p.gather()
	}
	if err != nil {
		return fmt.Errorf("write the AWS profile %q: %w", target, disk.Cause(err))
	}
	p.expiry = c.Expiry
	return nil
}

// remove takes the step's section out, and the file with the last one.
func (p *awsProfile) remove() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := os.Remove(filepath.Join(p.dir, p.file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has none
	}
	if err == nil {
		err = p.gather()
	}
	if err != nil {
		return fmt.Errorf("remove the AWS profile: %w", disk.Cause(err))
	}
	return nil
}

// gather writes the shared file from the sections. The last process to write it
// has read the sections after that, so that none is missing.
func (p *awsProfile) gather() error {
	for {
		all, err := p.sections()
		if err != nil {
			return err
		}
		if len(all) > 0 {
			err = disk.Replace(p.path(), all)
		} else if err = os.Remove(p.path()); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err != nil {
			return err
		}
		now, err := p.sections()
		if err != nil || bytes.Equal(now, all) {
			return err
		}
	}
}

// sections returns every target's section: of two steps with the same target
// the one that was written last.
func (p *awsProfile) sections() ([]byte, error) {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, err
	}
	texts, written, names := map[string][]byte{}, map[string]time.Time{}, []string{}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), awsSection) {
			continue
		}
		path := filepath.Join(p.dir, e.Name())
		info, err := os.Lstat(path)
		var text []byte
		if err == nil {
			text, err = disk.ReadOwn(path, job.MaxFile)
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // its step has just ended
		}
		if err != nil {
			return nil, err
		}
		name, _, _ := strings.Cut(string(text), "\n")
		switch before, there := written[name]; {
		case !there:
			names = append(names, name)
		case before.After(info.ModTime()):
			continue
		}
		texts[name], written[name] = text, info.ModTime()
	}
	slices.Sort(names)
	var all []byte
	for i, name := range names {
		if i > 0 {
			all = append(all, '\n')
		}
		all = append(all, texts[name]...)
	}
	return all, nil
}
