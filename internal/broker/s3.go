package broker

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// s3 passes requests on to an object store, each signed anew with the current
// session. DuckDB itself renews an expired session only when it opens a file to
// read: writes and listings fail. The client shows the secret as its session
// token; its signing keys are ignored. Clients that request credentials
// themselves get container credentials here too.
// (Amazon S3 API Reference: Authenticating Requests)
func s3(b *Broker) (service, error) {
	store, err := newObjectStore(b.config.Network, b.config.Route.Upstream)
	if err != nil {
		return service{}, err
	}
	credentials, err := awsContainer(b)
	if err != nil {
		return service{}, err
	}
	buffers, sign := newPool(pieceSize), v4.NewSigner()
	requests := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !b.admitsS3(w, r) {
			return
		}
		c, err := b.session(r.Context())
		if err != nil {
			s3Error(w, http.StatusBadRequest, "ExpiredToken", err)
			return
		}
		to, err := store.place(r)
		if err != nil {
			s3Error(w, http.StatusBadRequest, "InvalidRequest", err)
			return
		}
		send := func(out *http.Request, c credential.Credential) (*http.Response, error) {
			if c.AWS == nil {
				return nil, errNoSession
			}
			return signer{sign, b.config.Now, *c.AWS, to.region, store.transport}.RoundTrip(out)
		}
		relay{
			transport: &retrier{broker: b, credential: c, send: send, refused: s3Refuses},
			lead:      to.lead,
			reply:     stays,
			redirects: true,
			buffers:   buffers,
			fail:      brokenOff,
		}.ServeHTTP(w, r)
	})
	return service{ahead: true, refuse: s3Refuse, handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == route.AWSContainerPath && !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
			credentials.handler.ServeHTTP(w, r)
		} else {
			requests.ServeHTTP(w, r)
		}
	})}, nil
}

// admitsS3 reports whether a client has shown the secret. Otherwise it sends an
// error.
func (b *Broker) admitsS3(w http.ResponseWriter, r *http.Request) bool {
	shown := r.Header.Get("X-Amz-Security-Token")
	presigned := strings.Contains(r.URL.RawQuery, "X-Amz-Signature=")
	if presigned {
		shown = r.URL.Query().Get("X-Amz-Security-Token")
	}
	switch {
	case shown == "":
		b.turnAway(w)
		s3Error(w, http.StatusForbidden, "AccessDenied", errors.New("the request has no session token"))
	case !b.admits(w, r, shown):
		s3Error(w, http.StatusForbidden, "InvalidAccessKeyId", errors.New("the session token does not belong to this run"))
	case presigned:
		s3Error(w, http.StatusForbidden, "AccessDenied", errors.New("presigned URLs are not supported: sign in the Authorization header"))
	default:
		return true
	}
	return false
}

var errNoSession = errors.New("the credential is not an AWS session")

// refusedSession finds in S3's error what is about the session and not about
// what it may do; the last is MinIO's. (Amazon S3 API Reference: List of error codes)
var refusedSession = lazy.MustCompile(`<Code>(?:ExpiredToken|InvalidToken|TokenRefreshRequired|InvalidAccessKeyId|InvalidTokenId)</Code>`)

// s3Refuses reports whether a reply says that the session is invalid.
func s3Refuses(resp *http.Response) bool {
	if resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusForbidden {
		return false
	}
	if resp.Request.Method == http.MethodHead { // which has no body
		code := resp.Header.Get("X-Minio-Error-Code")
		return code == "" && resp.StatusCode == http.StatusBadRequest || refusedSession.MatchString("<Code>"+code+"</Code>")
	}
	const enough = 4 << 10
	body := bufio.NewReaderSize(resp.Body, enough)
	words, _ := body.Peek(enough) // an error is of the reader behind it, too
	resp.Body = struct {
		io.Reader
		io.Closer
	}{body, resp.Body}
	return refusedSession.MatchString(string(words))
}

// session returns a valid session, and waits for it: DuckDB would only retry
// within the same second, and then show no reason.
func (b *Broker) session(ctx context.Context) (credential.Credential, error) {
	c, err := b.current(ctx, s3Patience)
	if err == nil && c.AWS == nil {
		err = errNoSession
	}
	return c, err
}

// brokenOff replies to a request that the store has not answered. DuckDB tries
// 503 again; where the store cannot be reached at all it shows the reason.
func brokenOff(w http.ResponseWriter, err error) {
	var dial *net.OpError
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &dial) && dial.Op == "dial" || errors.As(err, &certificate) {
		s3Error(w, http.StatusBadGateway, "BadGateway", err)
		return
	}
	s3Error(w, http.StatusServiceUnavailable, "ServiceUnavailable", err)
}

// xmlText does not escape quotes: DuckDB shows the text without unescaping it.
var xmlText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// s3Error is an error in S3's form. (Amazon S3 API Reference: Error responses)
func s3Error(w http.ResponseWriter, status int, code string, err error) {
	id := rand.Text()[:16] // as long as S3's own
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("X-Amz-Request-Id", id)
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"+
		"<Error><Code>%s</Code><Message>oidc-dbt: %s</Message><RequestId>%s</RequestId></Error>", code, xmlText.Replace(err.Error()), id)
}

// s3Refuse is an error of what never gets to be a request of S3's.
func s3Refuse(w http.ResponseWriter, status int, err error) {
	code := "AccessDenied"
	if status >= http.StatusInternalServerError {
		code = "InternalError"
	}
	s3Error(w, status, code, err)
}

// An objectStore is where requests go.
type objectStore struct {
	// endpoint has no port that its scheme implies, as with clients: the host is
	// signed. It is nil for Amazon S3, whose hosts go by region.
	endpoint  *url.URL
	buckets   bool // they are in the host name, not in the path
	transport way
}

func newObjectStore(network web.Network, u route.Upstream) (objectStore, error) {
	named := u
	if u.Host == "" {
		named.Host, named.Port = "s3.amazonaws.com", web.HTTPSPort
	}
	transport, endpoint, err := upstream(network, named)
	if err != nil {
		return objectStore{}, err
	}
	if transport.TLSClientConfig != nil {
		transport.TLSClientConfig.ServerName = "" // each request's own host, that of a region or a bucket
	}
	if u.Host == "" {
		endpoint = nil
	}
	return objectStore{endpoint: endpoint, buckets: u.Buckets, transport: transport}, nil
}

// A place is one store's host, and what of the request's path it is asked for.
type place struct {
	scheme, host  string
	path, rawPath string
	region        string
}

var (
	// signedFor is the region that a client has signed for.
	signedFor = lazy.MustCompile(`^AWS4-HMAC-SHA256 Credential=[^/, ]*/[0-9]{8}/([A-Za-z0-9-]{1,32})/s3/aws4_request,`)
	// awsRegion keeps a region's host one of Amazon's.
	awsRegion = lazy.MustCompile(`^[a-z]{2,}(?:-[a-z]+)+-[0-9]+$`)
	bucket    = lazy.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
)

// place returns where a request of a client, which has the bucket in its path,
// is for. The client chooses the region, as S3 tells it which a bucket has.
func (s objectStore) place(r *http.Request) (place, error) {
	m := signedFor.FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil {
		return place{}, errors.New("the request is not signed for S3")
	}
	p := place{path: r.URL.Path, rawPath: r.URL.RawPath, region: m[1]}
	if s.endpoint == nil {
		if !awsRegion.MatchString(p.region) {
			return place{}, fmt.Errorf("region is %q, want one such as eu-central-1", p.region)
		}
		p.scheme, p.host = "https", "s3."+p.region+".amazonaws.com"
		if strings.HasPrefix(p.region, "cn-") {
			p.host += ".cn"
		}
		return p, nil
	}
	p.scheme, p.host = s.endpoint.Scheme, s.endpoint.Host
	if s.buckets {
		name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
		if !bucket.MatchString(name) {
			return place{}, fmt.Errorf("the bucket is %q, want a name that is valid in a host name", name)
		}
		p.host, p.rawPath = name+"."+p.host, "/"+rest
		var err error
		if p.path, err = url.PathUnescape(p.rawPath); err != nil {
			return place{}, err
		}
	}
	return p, nil
}

func (p place) lead(out *http.Request) {
	out.URL.Scheme, out.URL.Host, out.Host = p.scheme, p.host, p.host
	out.URL.Path, out.URL.RawPath = p.path, p.rawPath
	for _, name := range []string{"Authorization", "X-Amz-Security-Token", "X-Amz-Date"} {
		out.Header.Del(name)
	}
}

// A signer signs requests on their way. What is signed of the body is the hash
// that the client has sent, which the store compares.
type signer struct {
	sign    *v4.Signer // it keeps the keys that it derives for a day and a region
	now     func() time.Time
	session credential.AWS
	region  string
	next    http.RoundTripper
}

func (s signer) RoundTrip(r *http.Request) (*http.Response, error) {
	hash := r.Header.Get("X-Amz-Content-Sha256")
	if hash == "" {
		hash = "UNSIGNED-PAYLOAD"
		r.Header.Set("X-Amz-Content-Sha256", hash)
	}
	keys := aws.Credentials{
		AccessKeyID: s.session.AccessKeyID.Reveal(), SecretAccessKey: s.session.SecretAccessKey.Reveal(),
		SessionToken: s.session.SessionToken.Reveal(),
	}
	err := s.sign.SignHTTP(r.Context(), keys, r, hash, "s3", s.region, s.now(), func(o *v4.SignerOptions) {
		o.DisableURIPathEscaping = true // S3 alone does not escape a path twice
	})
	if err != nil {
		return nil, fmt.Errorf("sign the request: %w", err)
	}
	return s.next.RoundTrip(r)
}

// stays keeps the client here: where S3 says that a bucket is elsewhere, the
// header with its region is enough.
func stays(resp *http.Response) error {
	resp.Header.Del("Location")
	resp.Body = whole{resp.Body}
	return nil
}

// whole is a body that fills the reader's buffer.
type whole struct{ io.ReadCloser }

func (w whole) Read(p []byte) (int, error) {
	n, err := io.ReadFull(w.ReadCloser, p)
	if errors.Is(err, io.ErrUnexpectedEOF) && n > 0 {
		err = nil // the next read has the end, or what broke it off
	}
	return n, err
}
