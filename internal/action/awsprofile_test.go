//go:build unix

package action

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
)

func awsSession(key string, expiry time.Time) credential.Credential {
	return credential.Credential{Kind: "aws_session", Expiry: expiry, AWS: &credential.AWS{
		AccessKeyID: secret.New(key), SecretAccessKey: secret.New("s/" + key), SessionToken: secret.New("t+" + key + "=="), Region: "eu-central-1",
	}}
}

func awsText(target, key string) string {
	return fmt.Sprintf("[%s]\naws_access_key_id = %s\naws_secret_access_key = s/%[2]s\naws_session_token = t+%[2]s==\nregion = eu-central-1\n", target, key)
}

// TestAWSProfiles: each step adds its section, renews it, and takes out its
// own; the last one takes the file with it.
func TestAWSProfiles(t *testing.T) {
	t.Parallel()
	temp := filepath.Join(t.TempDir(), "runner [1]") // no pattern for files
	if err := os.Mkdir(temp, 0o755); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	step := func(n int) *awsProfile {
		return profileOf(filepath.Join(temp, fmt.Sprintf("oidc-dbt-step-%d", n)))
	}
	prod, lake, again := step(1), step(2), step(3)
	write := func(p *awsProfile, target, key string, expiry time.Time) func() error {
		return func() error { return p.write(target, awsSession(key, expiry)) }
	}
	for _, tt := range []struct {
		name string
		do   func() error
		want string
	}{
		{"nothing to remove", prod.remove, ""},
		{"the first step", write(prod, "prod", "A1", now), awsText("prod", "A1")},
		{"the second step", write(lake, "lake.eu-1_x", "B1", now), awsText("lake.eu-1_x", "B1") + "\n" + awsText("prod", "A1")},
		{"a renewal", write(prod, "prod", "A2", now.Add(time.Hour)), awsText("lake.eu-1_x", "B1") + "\n" + awsText("prod", "A2")},
		{"an older session", write(prod, "prod", "A1", now), awsText("lake.eu-1_x", "B1") + "\n" + awsText("prod", "A2")},
		{"the same target in a third step", write(again, "prod", "C1", now), awsText("lake.eu-1_x", "B1") + "\n" + awsText("prod", "C1")},
		{"the third step's end", again.remove, awsText("lake.eu-1_x", "B1") + "\n" + awsText("prod", "A2")},
		{"again", again.remove, awsText("lake.eu-1_x", "B1") + "\n" + awsText("prod", "A2")},
		{"the second step's end", lake.remove, awsText("prod", "A2")},
		{"the first step's end", prod.remove, ""},
	} {
		if err := tt.do(); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		got, err := os.ReadFile(prod.path())
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if string(got) != tt.want {
			t.Errorf("%s: the file is\n%s\nwant\n%s", tt.name, got, tt.want)
		}
		if info, err := os.Stat(prod.path()); err == nil && info.Mode() != 0o600 {
			t.Errorf("%s: the file's mode is %v", tt.name, info.Mode())
		}
	}
	if left, err := os.ReadDir(prod.dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestAWSProfilesAtOnce: no section is lost where steps and their background
// processes write at once.
func TestAWSProfilesAtOnce(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	const steps, rounds = 8, 20
	start := time.Now()
	var all sync.WaitGroup
	var last *awsProfile
	for n := range steps {
		p := profileOf(filepath.Join(temp, fmt.Sprintf("oidc-dbt-step-%d", n)))
		last = p
		all.Go(func() {
			for round := range rounds {
				if err := p.write(fmt.Sprintf("target%d", n), awsSession(fmt.Sprintf("K%dR%d", n, round), start.Add(time.Duration(round)*time.Second))); err != nil {
					t.Error(err)
				}
			}
			if n%2 == 1 {
				if err := p.remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	var want []string
	for n := 0; n < steps; n += 2 {
		want = append(want, awsText(fmt.Sprintf("target%d", n), fmt.Sprintf("K%dR%d", n, rounds-1)))
	}
	if got, err := os.ReadFile(last.path()); err != nil || string(got) != strings.Join(want, "\n") {
		t.Errorf("the file is\n%s\nwant\n%s (%v)", got, strings.Join(want, "\n"), err)
	}
}

// TestAWSProfileRefuses: what would write another section, and a folder that
// others may enter.
func TestAWSProfileRefuses(t *testing.T) {
	t.Parallel()
	open := t.TempDir()
	if err := os.MkdirAll(filepath.Join(open, "oidc-dbt", "aws"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(open, "oidc-dbt"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, temp, key, err string }{
		{"a line break", t.TempDir(), "A\n[other]", `write the AWS profile "prod": aws_access_key_id contains invalid characters`},
		{"a space", t.TempDir(), "A ;", `write the AWS profile "prod": aws_access_key_id contains invalid characters`},
		{"an open folder", open, "A", `write the AWS profile "prod": is accessible to other users (-rwxr-xr-x)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := profileOf(filepath.Join(tt.temp, "oidc-dbt-step-1"))
			err := p.write("prod", awsSession(tt.key, time.Now()))
			if err == nil || err.Error() != tt.err {
				t.Errorf("error is %v, want %s", err, tt.err)
			}
			if _, err := os.Stat(p.path()); !os.IsNotExist(err) {
				t.Errorf("a file was written: %v", err)
			}
		})
	}
}
