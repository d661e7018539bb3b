package proposal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/oidc-dbt/oidc-dbt/internal/disk"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
)

// Write writes the new files, and the differences as one patch. It overwrites
// nothing: where one of the files is there, none is written. It returns the
// paths that it wrote.
func (p *Proposal) Write() (written []string, err error) {
	files := p.Files
	if patch := p.Patch(); patch != "" {
		files = append(files[:len(files):len(files)], File{patchPath, patch})
	}
	repo := repository{root: p.root}
	for _, f := range files {
		if inside, err := disk.Within(repo.at(f.Path), p.root); err != nil || !inside {
			return nil, usage("", "write %s: a symbolic link leads out of the repository", f.Path)
		}
		if _, err := os.Lstat(repo.at(f.Path)); err == nil {
			return nil, usage(
				"move it away, or take what you need from the proposal",
				"%s is there already, and init overwrites nothing",
				f.Path,
			)
		}
	}
	for _, f := range files {
		err := os.MkdirAll(filepath.Dir(repo.at(f.Path)), 0o755)
		if err == nil {
			err = disk.New(repo.at(f.Path), []byte(f.Text))
		}
		if err == nil {
			written = append(written, f.Path)
			continue
		}
		for _, path := range written { // all or nothing
			_ = os.Remove(repo.at(path))
		}
		if errors.Is(err, fs.ErrExist) {
			return nil, usage("", "write %s: it is there already", f.Path)
		}
		return nil, fault.New(fault.Internal, err, "")
	}
	return written, nil
}

// Patch returns all differences as `git apply` takes them, "" for none.
func (p *Proposal) Patch() (text string) {
	for _, d := range p.Diffs {
		text += d.Text
	}
	return text
}
