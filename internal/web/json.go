package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// GetJSON reads a JSON object into a value, in one try. Errors that another try
// may cure are marked; none holds a part of the reply.
func GetJSON(ctx context.Context, client *http.Client, address string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("not a URL")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return Failed(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		err := fmt.Errorf("status is %d, want 200", resp.StatusCode)
		if Transient(resp.StatusCode) {
			return Temporary(err)
		}
		return err
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		return Failed(err)
	}
	if err := json.Unmarshal(body.Bytes(), into); err != nil {
		err = errors.New("unexpected reply, want a JSON object")
		if body.Len() == 0 {
			return Temporary(err) // the body was lost in transit
		}
		return err
	}
	return nil
}
