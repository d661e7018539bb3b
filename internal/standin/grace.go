package standin

import "time"

// Grace is how long after their told end the stand-ins take credentials in
// tests that renew them every few seconds: a machine may stand still between a
// credential's fetch and its use, which is no fault of who uses it. Clients and
// the broker go by the told end.
const Grace = 10 * time.Second
