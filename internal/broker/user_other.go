//go:build !linux

package broker

import "net/netip"

// listenerUser returns unknownUser: this system does not say whose a connection is.
func listenerUser(netip.AddrPort) int { return unknownUser }

func socketUser(_, _ netip.AddrPort) int { return unknownUser }
