package ship

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
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/exchange"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/policy"
	"github.com/oidc-dbt/oidc-dbt/internal/secret"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// bucket writes each record as an object that must not be there yet.
type bucket struct {
	env    Env
	place  policy.Bucket
	writer Writer
}

// Bucket returns the bucket of a policy, which writer's credential may write.
func Bucket(env Env, b policy.Bucket, writer Writer) Place { return &bucket{env, b, writer} }

// Name implements Place.
func (*bucket) Name() string { return "bucket" }

// Send implements Place.
func (b *bucket) Send(ctx context.Context, r Record) error {
	c, err := b.writer(ctx)
	if err != nil {
		return err
	}
	unsure := false // an earlier try had no reply, or one that does not say whether it has written the object
	_, err = web.Retry(ctx, func(ctx context.Context) (struct{}, error) {
		status, err := b.put(ctx, c, Key(b.place, r), append(bytes.Clone(r.Line), '\n'))
		switch {
		case status == http.StatusPreconditionFailed && unsure:
			return struct{}{}, nil // its name is this record's, and no one else knew it
		case slices.Contains([]int{0, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout}, status):
			unsure = true
		}
		return struct{}{}, err
	})
	return err
}

// put writes an object. The status is 0 where there was no reply.
func (b *bucket) put(ctx context.Context, c credential.Credential, key string, body []byte) (status int, err error) {
	req, err := b.request(ctx, c, key, body)
	if err != nil {
		return 0, err
	}
	resp, err := b.env.HTTP.Do(req)
	if err != nil {
		return 0, web.Failed(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, web.Failed(err)
	}
	var reply struct {
		Code    string `xml:"Code"`
		Message string `xml:"Message"`
	}
	_ = xml.Unmarshal(text, &reply)
	code := reply.Code
	if code == "" {
		code = resp.Header.Get("x-ms-error-code")
	}
	words := ""
	if code != "" {
		words = ": " + exchange.Quoted(code, c.Secrets())
	}
	switch status = resp.StatusCode; {
	case status == http.StatusOK, status == http.StatusCreated:
		return status, nil
	case status == http.StatusPreconditionFailed || code == "BlobAlreadyExists":
		return http.StatusPreconditionFailed, fmt.Errorf("the object %q is there already: a record is never overwritten", key)
	case web.Transient(status), code == "ConditionalRequestConflict", code == "SlowDown":
		return status, web.Temporary(fmt.Errorf("the bucket replied with status %d%s", status, words))
	case code == "PermanentRedirect", code == "AuthorizationHeaderMalformed", code == "IllegalLocationConstraintException":
		return status, fault.New(fault.Internal, fmt.Errorf("the bucket replied with status %d%s", status, words),
			fmt.Sprintf("the bucket is in another region: the `region` of target %q is the bucket's", b.place.Target))
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		// Without the object's name: what many records meet is one fault.
		return status, fmt.Errorf("the credential of target %q may not write %q in bucket %q: status %d%s",
			b.place.Target, b.place.Prefix+"*", b.place.Name, status, words)
	}
	return status, fmt.Errorf("the bucket replied with status %d%s", status, words)
}

// request is the conditional write of the bucket's kind, signed.
func (b *bucket) request(ctx context.Context, c credential.Credential, key string, body []byte) (*http.Request, error) {
	if (b.place.Kind == "s3") != (c.AWS != nil) || c.AWS == nil && c.Token.IsZero() { // the policy's check sees to it
		return nil, fmt.Errorf("target %q gives a credential of kind %s, which cannot write the bucket", b.place.Target, c.Kind)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, b.url(c, key), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the bucket's address is no URL")
	}
	req.Header.Set("Content-Type", "application/json")
	switch b.place.Kind {
	case "s3": // Amazon S3 API Reference, PutObject, If-None-Match; objects with a retention need a checksum
		return req, signS3(ctx, b.env, req, c, body)
	case "gs": // Cloud Storage: request preconditions; XML API, PUT Object
		req.Header.Set("x-goog-if-generation-match", "0")
	case "azure": // Azure Storage: Put Blob; specifying conditional headers
		req.Header.Set("If-None-Match", "*")
		req.Header.Set("x-ms-blob-type", "BlockBlob")
		req.Header.Set("x-ms-version", "2023-11-03")
	}
	req.Header.Set("Authorization", "Bearer "+c.Token.Reveal())
	return req, nil
}

// url is where the object will be.
func (b *bucket) url(c credential.Credential, key string) string {
	p := b.place
	switch {
	case p.Kind == "gs":
		return "https://storage.googleapis.com/" + p.Name + "/" + key
	case p.Kind == "azure":
		return p.Endpoint + "/" + p.Name + "/" + key
	}
	key = strings.ReplaceAll(key, "=", "%3D") // the form that is signed
	if p.Endpoint != "" {
		return p.Endpoint + "/" + p.Name + "/" + key
	}
	region, domain := c.AWS.Region, "amazonaws.com"
	if strings.HasPrefix(region, "cn-") {
		domain += ".cn"
	}
	if strings.Contains(p.Name, ".") { // the wildcard of S3's certificate is for one label
		return "https://s3." + region + "." + domain + "/" + p.Name + "/" + key
	}
	return "https://" + p.Name + ".s3." + region + "." + domain + "/" + key
}

func signS3(ctx context.Context, env Env, req *http.Request, c credential.Credential, body []byte) error {
	sum := sha256.Sum256(body)
	req.Header.Set("If-None-Match", "*")
	req.Header.Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(sum[:]))
	req.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
	keys := aws.Credentials{AccessKeyID: reveal(c.AWS.AccessKeyID), SecretAccessKey: reveal(c.AWS.SecretAccessKey),
		SessionToken: reveal(c.AWS.SessionToken)}
	err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).
		SignHTTP(ctx, keys, req, hex.EncodeToString(sum[:]), "s3", c.AWS.Region, env.Now())
	if err != nil {
		return errors.New("sign the request: the signer failed") // its words may hold the request
	}
	return nil
}

func reveal(v secret.Value) string { return v.Reveal() }
