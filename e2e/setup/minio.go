package setup

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// A MinIOServer is MinIO on loopback: a store with S3's interface, and a token service.
type MinIOServer struct {
	URL  string
	Data string // the folder that has a folder for each bucket
}

// MinIORoot owns the store. Not even root may delete a locked version.
func MinIORoot() aws.Credentials {
	return aws.Credentials{AccessKeyID: "root", SecretAccessKey: "root-password"}
}

// A MinIOConfig says whose tokens MinIO accepts.
type MinIOConfig struct {
	Discovery string // the URL of the issuer's discovery document
	Audience  string
	Claim     string        // the claim that names MinIO's policy
	Token     func() string // returns a valid token, for the check that it is ready
	Buckets   []string      // empty ones to start with
}

// MinIO starts MinIO.
func MinIO(t testing.TB, config MinIOConfig) *MinIOServer {
	t.Helper()
	const pinned = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"
	program, address, home := Tool(t, pinned), fmt.Sprintf("127.0.0.1:%d", Port(t)), t.TempDir()
	s, root := &MinIOServer{URL: "http://" + address, Data: filepath.Join(home, "data")}, MinIORoot()
	for _, bucket := range config.Buckets {
		if err := os.MkdirAll(filepath.Join(s.Data, bucket), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, "server", "--quiet", "--anonymous", "--address", address, s.Data)
	cmd.Env = []string{
		"HOME=" + home, "PATH=" + os.Getenv("PATH"), "MINIO_ROOT_USER=" + root.AccessKeyID,
		"MINIO_ROOT_PASSWORD=" + root.SecretAccessKey, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CI_CD=on",
		"MINIO_IDENTITY_OPENID_CONFIG_URL=" + config.Discovery, "MINIO_IDENTITY_OPENID_CLIENT_ID=" + config.Audience,
		"MINIO_IDENTITY_OPENID_CLAIM_NAME=" + config.Claim,
	}
	StartCommand(t, cmd, func() error { return s.ready(config.Token()) })
	return s
}

// What the tokens of a lake's issuer are for, and the claim that names MinIO's policy: a custom property of the repository.
const (
	LakeAudience = "sts.amazonaws.com"
	LakeProperty = "repo_property_minio_policy"
)

// Lake starts a MinIO with an empty bucket `lake`, and an issuer whose tokens it verifies and lets read and write.
func Lake(t testing.TB) (*MinIOServer, *standin.Issuer) {
	t.Helper()
	claims := standin.GitHubClaims()
	claims[LakeProperty] = "readwrite"
	issuer, err := standin.StartIssuer(claims)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(issuer.Close)
	return MinIO(t, MinIOConfig{
		Discovery: issuer.URL() + "/.well-known/openid-configuration", Audience: LakeAudience, Claim: LakeProperty,
		Token: func() string { return issuer.Sign(LakeAudience, nil) }, Buckets: []string{"lake"},
	}), issuer
}

// ready returns nil when MinIO accepts a valid token: it answers
// /minio/health/ready before it has read the issuer's discovery document and
// the policies.
func (s *MinIOServer) ready(token string) error {
	resp, err := s.AssumeRole(token)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(resp.Body)
		return errors.Join(fmt.Errorf("a good token: %s: %s", resp.Status, body), err)
	}
	return nil
}

// AssumeRole sends a token to the token service, without an ARN.
func (s *MinIOServer) AssumeRole(token string) (*http.Response, error) {
	return http.PostForm(s.URL, url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "DurationSeconds": {"900"},
		"WebIdentityToken": {token},
	})
}

// SendS3 sends a signed request to a store, with one more header ("Name: value") unless it is "", and returns the
// reply's status and body.
func SendS3(t testing.TB, keys aws.Credentials, method, url, body, header string) (status int, reply string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(body))
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	if body != "" {
		req.Header.Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(sum[:]))
	}
	if name, value, found := strings.Cut(header, ": "); found {
		req.Header.Set(name, value)
	}
	sign := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	err = sign.SignHTTP(t.Context(), keys, req, hex.EncodeToString(sum[:]), "s3", "us-east-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}
