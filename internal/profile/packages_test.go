package profile_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/oidc-dbt/oidc-dbt/internal/profile"
)

// lock is a lock file as dbt deps writes it, with every form of a package.
const lock = `packages:
  - name: dbt_utils
    package: dbt-labs/dbt_utils
    version: 1.3.0
  - git: https://user:ghp_SECRET@github.com/acme/macros.git?token=SECRET
    revision: 4f1c9d2
    subdirectory: dbt
  - git: git@github.com:acme/private.git
    revision: v2
  - tarball: https://x:SECRET@packages.acme.example/p.tar.gz
    name: p
  - local: ../shared
  - {unknown: form}
sha1_hash: 0f3c
`

func TestProjects(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte(lock))
	hash := func(text string) string { s := sha256.Sum256([]byte(text)); return hex.EncodeToString(s[:]) }
	for _, tt := range []struct {
		name  string
		files map[string]string
		dirs  []string
		want  []profile.Project
	}{
		{"every form of a package", map[string]string{"dbt_project.yml": "name: shop\nprofile: shop\n", "package-lock.yml": lock}, nil,
			[]profile.Project{{"shop", hex.EncodeToString(sum[:]), []string{
				"dbt-labs/dbt_utils@1.3.0", "https://github.com/acme/macros.git@4f1c9d2#dbt", "github.com:acme/private.git@v2",
				"https://packages.acme.example/p.tar.gz", "local:../shared",
			}}}},
		{"no lock file", map[string]string{"dbt_project.yml": "name: shop\n"}, nil, []profile.Project{{Name: "shop"}}},
		{"a lock file that is none", map[string]string{"package-lock.yml": "packages: [unclosed"}, nil,
			[]profile.Project{{Lock: hash("packages: [unclosed")}}},
		{"packages that are no list", map[string]string{"package-lock.yml": "packages: {}\n"}, nil, []profile.Project{{Lock: hash("packages: {}\n")}}},
		{"no project", nil, nil, nil},
		{"several", map[string]string{"a/dbt_project.yml": "name: a\n", "b/dbt_project.yml": "name: b\n"}, []string{"a", "none", "b"},
			[]profile.Project{{Name: "a"}, {Name: "b"}}},
	} {
		root := t.TempDir()
		for name, text := range tt.files {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := profile.Projects(root, tt.dirs); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got\n%q, want\n%q", tt.name, got, tt.want)
		}
	}
}
