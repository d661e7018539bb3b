package standin

import "time"

// Grace is how long after their stated expiry the stand-ins accept credentials
// in tests that renew them every few seconds: a machine may pause between a
// credential's fetch and its use, which is not the client's fault. Clients and
// the broker go by the stated expiry.
const Grace = 10 * time.Second
