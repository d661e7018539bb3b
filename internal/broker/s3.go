package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
	"github.com/oidc-dbt/oidc-dbt/internal/route"
)

// s3 passes requests on to an object store, each signed anew with the current
// session. DuckDB would renew a session that has died only where it opens a
// file to read: a write and a listing fail. The client shows the secret as its
// session token, and signs with keys that nobody looks at. For what asks by
// itself it serves container credentials too.
// (Amazon S3 API Reference: Authenticating Requests)
func s3(b *Broker) (service, error) {
	store, err := newObjectStore(b.config.Route.Upstream)
	if err != nil {
		return service{}, err
	}
	credentials, err := awsContainer(b)
	if err != nil {
		return service{}, err
	}
	buffers := newPool(pieceSize)
	requests := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !b.knows(r.Header.Get("X-Amz-Security-Token")) {
			b.refused.add()
			s3Error(w, http.StatusForbidden, "InvalidAccessKeyId", errors.New("the session token is not this run's"))
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
		(&httputil.ReverseProxy{
			Rewrite:        func(p *httputil.ProxyRequest) { to.lead(p.Out) },
			Transport:      signer{b.config.Now, *c.AWS, to.region, store.transport},
			ModifyResponse: arrived,
			BufferPool:     buffers,
			ErrorHandler:   brokenOff,
		}).ServeHTTP(w, r)
	})
	return service{ahead: true, handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
			requests.ServeHTTP(w, r)
		} else {
			credentials.handler.ServeHTTP(w, r)
		}
	})}, nil
}

// How long a request waits for a session that is not there yet. DuckDB asks
// twice to open a file, so that dbt ends within ten seconds.
const s3Wait, s3Again = 4 * time.Second, 500 * time.Millisecond

// session returns a session that lives, for which it waits a while: DuckDB
// would try another time in the same second, and show no reason thereafter.
func (b *Broker) session(ctx context.Context) (c credential.Credential, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s3Wait, errors.New("the next session is still being asked for"))
	defer cancel()
	for {
		if c, err = b.config.Current(ctx); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return c, err
		case <-time.After(s3Again):
		}
	}
	if c.AWS == nil {
		return c, errors.New("the credential is no session of AWS")
	}
	return c, nil
}

// brokenOff replies to a request that the store has not answered. DuckDB tries
// 503 again; where the store cannot be reached at all it shows the reason.
func brokenOff(w http.ResponseWriter, _ *http.Request, err error) {
	var dial *net.OpError
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &dial) && dial.Op == "dial" || errors.As(err, &certificate) {
		s3Error(w, http.StatusBadGateway, "BadGateway", err)
		return
	}
	s3Error(w, http.StatusServiceUnavailable, "ServiceUnavailable", err)
}

// xmlText leaves quotes as they are: DuckDB shows the text as it stands.
var xmlText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// s3Error is an error in S3's form.
func s3Error(w http.ResponseWriter, status int, code string, err error) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>oidc-dbt: %s</Message></Error>", code, xmlText.Replace(err.Error()))
}

// An objectStore is where requests go.
type objectStore struct {
	endpoint  *url.URL // nil for Amazon S3, whose hosts go by region
	buckets   bool     // they stand in front of the host, not in the path
	transport *http.Transport
}

func newObjectStore(u route.Upstream) (objectStore, error) {
	named := u
	if u.Host == "" {
		named.Host, named.Port = "s3.amazonaws.com", 443
	}
	transport, endpoint, err := upstream(named)
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
	// awsRegion keeps the host of a region one of Amazon's.
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
	p.scheme, p.host = s.endpoint.Scheme, authority(s.endpoint)
	if s.buckets {
		name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
		if !bucket.MatchString(name) {
			return place{}, fmt.Errorf("the bucket is %q, want a name that can stand in front of a host", name)
		}
		p.host, p.rawPath = name+"."+p.host, "/"+rest
		var err error
		if p.path, err = url.PathUnescape(p.rawPath); err != nil {
			return place{}, err
		}
	}
	return p, nil
}

// authority leaves out the port that the scheme implies, as clients do: it is
// signed.
func authority(u *url.URL) string {
	if port := u.Port(); u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		return strings.TrimSuffix(u.Host, ":"+port)
	}
	return u.Host
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
		AccessKeyID: s.session.AccessKeyID.Reveal(), SecretAccessKey: s.session.SecretAccessKey.Reveal(), SessionToken: s.session.SessionToken.Reveal(),
	}
	err := v4.NewSigner().SignHTTP(r.Context(), keys, r, hash, "s3", s.region, s.now(), func(o *v4.SignerOptions) {
		o.DisableURIPathEscaping = true // S3 alone does not escape a path twice
	})
	if err != nil {
		return nil, fmt.Errorf("sign the request: %w", err)
	}
	return s.next.RoundTrip(r)
}

// arrived keeps the client here: where S3 says that a bucket is elsewhere, the
// header with its region is enough.
func arrived(resp *http.Response) error {
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
