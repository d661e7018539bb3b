// Package bucket writes objects once to a bucket of S3, Google Cloud Storage or Azure Storage, and lists and reads
// them, by short-lived credentials.
package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// Env is the world as a bucket needs it.
type Env struct {
	HTTP *http.Client // from web.NewClient
	Now  func() time.Time
}

// A Credential gives the credential of the bucket's target, as often as it is
// asked, by several at once; it keeps one until that is about to expire.
type Credential func(ctx context.Context) (credential.Credential, error)

// A Bucket is one that a target's credential is for.
type Bucket struct {
	env        Env
	place      policy.Bucket
	credential Credential
}

// New returns the bucket at a place. Nothing is asked for.
func New(env Env, place policy.Bucket, c Credential) *Bucket { return &Bucket{env, place, c} }

// held returns a credential of the kind that the bucket takes.
func (b *Bucket) held(ctx context.Context) (credential.Credential, error) {
	c, err := b.credential(ctx)
	if err == nil && ((b.place.Kind == "s3") != (c.AWS != nil) || c.AWS == nil && c.Token.IsZero()) {
		err = fmt.Errorf("target %q gives a credential of kind %s, which is not one for the bucket", b.place.Target, c.Kind)
	}
	return c, err
}

// Put writes an object that must not be there yet, and returns nil once it is
// there, for good.
func (b *Bucket) Put(ctx context.Context, key string, body []byte) error {
	c, err := b.held(ctx)
	if err != nil {
		return err
	}
	unsure := false // an earlier try had no reply, or one that does not say whether it has written the object
	_, err = web.Retry(ctx, func(ctx context.Context) (struct{}, error) {
		status, err := b.put(ctx, c, key, body)
		switch {
		case status == http.StatusPreconditionFailed && unsure:
			return struct{}{}, nil // its name is this caller's, and no one else knew it
		case slices.Contains([]int{0, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout}, status):
			unsure = true
		}
		return struct{}{}, err
	})
	return err
}

// put is one try. The status is 0 where there was no reply.
func (b *Bucket) put(ctx context.Context, c credential.Credential, key string, body []byte) (status int, err error) {
	header := http.Header{"Content-Type": {"application/json"}}
	switch b.place.Kind {
	case "s3": // Amazon S3 API Reference, PutObject, If-None-Match; objects with a retention need a checksum
		sum := sha256.Sum256(body)
		header.Set("If-None-Match", "*")
		header.Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(sum[:]))
	case "gs": // Cloud Storage: request preconditions; XML API, PUT Object
		header.Set("x-goog-if-generation-match", "0")
	case "azure": // Azure Storage: Put Blob; specifying conditional headers
		header.Set("If-None-Match", "*")
		header.Set("x-ms-blob-type", "BlockBlob")
	}
	r, err := b.send(ctx, c, http.MethodPut, b.object(c, key), header, body)
	switch {
	case err != nil:
		return 0, err
	case r.status == http.StatusOK, r.status == http.StatusCreated:
		return r.status, nil
	case r.status == http.StatusPreconditionFailed || r.code == "BlobAlreadyExists":
		return http.StatusPreconditionFailed, fmt.Errorf("the object %q is there already: a record is never overwritten", key)
	case r.code == "ConditionalRequestConflict":
		return r.status, web.Temporary(r.failed())
	}
	// Without the object's name: what many records meet is one fault.
	return r.status, b.refusal(r, fmt.Sprintf("write %q", b.place.Prefix+"*"), "")
}

// A reply is what the bucket said to one request.
type reply struct {
	status int
	body   []byte
	code   string // the vendor's word for an error, "" for none
	words  string // the same, to follow a message
}

func (r reply) failed() error {
	return fmt.Errorf("the bucket replied with status %d%s", r.status, r.words)
}

// refusal is the error of a reply that is no success. what says what the
// credential may not do, permission what it needs for that, "" where the
// message says enough.
func (b *Bucket) refusal(r reply, what, permission string) error {
	hint := ""
	if permission != "" {
		hint = fmt.Sprintf("target %q needs %s", b.place.Target, permission)
	}
	switch {
	case web.Transient(r.status), r.code == "SlowDown":
		return web.Temporary(fault.New(fault.Unreachable, r.failed(), ""))
	case slices.Contains([]string{"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}, r.code):
		return fault.New(fault.Refused, r.failed(),
			fmt.Sprintf("the bucket is in another region: the `region` of target %q is the bucket's", b.place.Target))
	case r.status == http.StatusForbidden, r.status == http.StatusUnauthorized:
		return fault.New(fault.Refused, fmt.Errorf("the credential of target %q may not %s in bucket %q: status %d%s",
			b.place.Target, what, b.place.Name, r.status, r.words), hint)
	}
	return fault.New(fault.Unreachable, r.failed(), "")
}

// send sends a signed request, once. An error says that there was no reply.
func (b *Bucket) send(
	ctx context.Context, c credential.Credential, method, address string, header http.Header, body []byte,
) (r reply, err error) {
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return r, errors.New("the bucket's address is no URL")
	}
	req.Header = header
	if b.place.Kind == "azure" {
		req.Header.Set("x-ms-version", "2023-11-03")
	}
	if c.AWS == nil {
		req.Header.Set("Authorization", "Bearer "+c.Token.Reveal())
	} else if err := b.sign(ctx, req, c, body); err != nil {
		return r, err
	}
	if b.place.Kind != "gs" { // or net/http decodes what the writer of an object says is encoded; not signed: proxies change it
		req.Header.Set("Accept-Encoding", "identity")
	}
	resp, err := b.env.HTTP.Do(req)
	if err != nil {
		return r, noReply(err)
	}
	defer resp.Body.Close()
	r = reply{status: resp.StatusCode}
	if r.body, err = io.ReadAll(resp.Body); err != nil {
		return reply{}, noReply(err)
	}
	if r.status/100 == 2 {
		return r, nil
	}
	var words struct {
		Code string `xml:"Code"`
	}
	_ = xml.Unmarshal(r.body, &words)
	if r.code = words.Code; r.code == "" {
		r.code = resp.Header.Get("x-ms-error-code")
	}
	if r.code != "" {
		r.words = ": " + exchange.Quoted(r.code, c.Secrets())
	}
	return r, nil
}

// noReply is the error of a request without a usable reply.
func noReply(err error) error {
	return web.FailedAs(err, fault.New(fault.Unreachable, web.Cause(err), web.Hint(err)))
}

// root is the address of the bucket itself, without a slash at its end.
func (b *Bucket) root(c credential.Credential) string {
	p := b.place
	switch {
	case p.Kind == "gs":
		return "https://storage.googleapis.com/" + p.Name
	case p.Endpoint != "":
		return p.Endpoint + "/" + p.Name
	}
	region, domain := c.AWS.Region, "amazonaws.com"
	if strings.HasPrefix(region, "cn-") {
		domain += ".cn"
	}
	if strings.Contains(p.Name, ".") { // the wildcard of S3's certificate is for one label
		return "https://s3." + region + "." + domain + "/" + p.Name
	}
	return "https://" + p.Name + ".s3." + region + "." + domain
}

// object is the address of an object.
func (b *Bucket) object(c credential.Credential, key string) string {
	return b.root(c) + "/" + escaped(key)
}

// escaped is a key as S3 signs it: every byte that is not unreserved as %XX,
// but for slashes. The other stores read the same.
func escaped(key string) string {
	return strings.ReplaceAll(strings.ReplaceAll(url.QueryEscape(key), "+", "%20"), "%2F", "/")
}

// sign adds AWS's signature.
func (b *Bucket) sign(ctx context.Context, req *http.Request, c credential.Credential, body []byte) error {
	sum := sha256.Sum256(body)
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	keys := aws.Credentials{AccessKeyID: reveal(c.AWS.AccessKeyID), SecretAccessKey: reveal(c.AWS.SecretAccessKey),
		SessionToken: reveal(c.AWS.SessionToken)}
	err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).
		SignHTTP(ctx, keys, req, hex.EncodeToString(sum[:]), "s3", c.AWS.Region, b.env.Now())
	if err != nil {
		return errors.New("sign the request: the signer failed") // its words may hold the request
	}
	return nil
}

func reveal(v secret.Value) string { return v.Reveal() }
