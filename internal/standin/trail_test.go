package standin_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/oidc-dbt/oidc-dbt/internal/standin"
)

// TestTrail: the log has each call that was let through by CloudTrail's name,
// and who made it.
func TestTrail(t *testing.T) {
	t.Parallel()
	a := newAccount(t, time.Now)
	store := newStore(t, a)
	const id, secret = "AKIAIOSFODNN7EXAMPLE", "stored"
	store.SetKey(id, secret)
	for _, given := range []string{secret, "other"} {
		client := storeClient(store, &types.Credentials{AccessKeyId: aws.String(id), SecretAccessKey: &given, SessionToken: aws.String("")})
		_, err := client.HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: aws.String("lake")})
		if (err == nil) != (given == secret) {
			t.Fatalf("with secret %q: %v", given, err)
		}
	}
	out, err := a.withToken(t.Context(), a.issuer.Sign("sts.amazonaws.com", nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	callAll(t, storeClient(store, out.Credentials))

	var want []string
	key := "IAMUser " + standin.KeyUser + " " + id + " "
	session := "AssumedRole " + *out.AssumedRoleUser.Arn + " " + *out.Credentials.AccessKeyId + " " + prodRole
	want = append(want, "HeadBucket lake  "+key)
	for _, event := range []string{
		"PutObject", "GetObject", "HeadObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload",
		"CreateMultipartUpload", "AbortMultipartUpload", "DeleteObject",
	} {
		want = append(want, event+" lake a/b "+session)
	}
	want = append(want, "ListObjects lake  "+session)
	if got := calls(t, store); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// callAll makes a call of each kind.
func callAll(t *testing.T, c *s3.Client) {
	t.Helper()
	ctx, bucket, key := t.Context(), aws.String("lake"), aws.String("a/b")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("order")})
	must(err)
	_, err = c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key})
	must(err)
	_, err = c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: key})
	must(err)
	upload, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key})
	must(err)
	part, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: upload.UploadId, PartNumber: aws.Int32(1),
		Body: strings.NewReader("order")})
	must(err)
	_, err = c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: upload.UploadId,
		MultipartUpload: &s3types.CompletedMultipartUpload{Parts: []s3types.CompletedPart{{ETag: part.ETag, PartNumber: aws.Int32(1)}}}})
	must(err)
	upload, err = c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key})
	must(err)
	_, err = c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: bucket, Key: key, UploadId: upload.UploadId})
	must(err)
	_, err = c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: key})
	must(err)
	_, err = c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket})
	must(err)
}

// calls are the log's calls, a line each.
func calls(t *testing.T, store *standin.Store) (list []string) {
	t.Helper()
	var log struct {
		Records []struct {
			EventTime         time.Time
			EventName         string
			SourceIPAddress   string
			RequestParameters struct{ BucketName, Key string }
			UserIdentity      struct {
				Type, ARN, AccessKeyID string
				SessionContext         struct{ SessionIssuer struct{ ARN string } }
			}
		}
	}
	if err := json.Unmarshal(store.Trail(), &log); err != nil {
		t.Fatal(err)
	}
	for i, r := range log.Records {
		if r.SourceIPAddress != "127.0.0.1" || time.Since(r.EventTime) > time.Minute {
			t.Errorf("call %d is from %q at %s", i+1, r.SourceIPAddress, r.EventTime)
		}
		who := r.UserIdentity
		list = append(list, strings.Join([]string{
			r.EventName, r.RequestParameters.BucketName, r.RequestParameters.Key, who.Type, who.ARN, who.AccessKeyID,
			who.SessionContext.SessionIssuer.ARN,
		}, " "))
	}
	return list
}
