//go:build wide

package setup

// wide says that this is a nightly run, which tries all cases.
const wide = true
