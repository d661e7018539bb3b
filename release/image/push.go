package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// A target is a repository of a registry that images are pushed to.
type target struct {
	repository name.Repository
	options    []remote.Option
}

func newTarget(ctx context.Context, repository string) (target, error) {
	repo, err := name.NewRepository(repository, name.StrictValidation)
	if err != nil {
		return target{}, fmt.Errorf("repository %q: %w", repository, err)
	}
	// The login of `docker login`, as docker/login-action leaves it.
	return target{repo, []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}}, nil
}

// push pushes one image. A tag that is there does not move: users have checked what it names.
func (t target) push(tag string, img v1.ImageIndex, digest v1.Hash) error {
	ref := t.repository.Tag(tag)
	there, err := remote.Head(ref, t.options...)
	var refused *transport.Error
	switch {
	case err == nil && there.Digest == digest:
		return nil
	case err == nil:
		return fmt.Errorf("push %s: the tag is there with %s, want %s: a release's tag does not move", ref, there.Digest, digest)
	case !errors.As(err, &refused) || refused.StatusCode != http.StatusNotFound:
		return fmt.Errorf("look for %s: %w", ref, err)
	}
	if err := remote.WriteIndex(ref, img, t.options...); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	return nil
}
