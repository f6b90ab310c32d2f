// Package acme orders certificates by ACME (RFC 8555) for the host names that a cloud
// serves, and renews them. It runs beside auth, on each node of that role:
//
//	a, err := auth.New(ctx, host, store)
//	o, err := acme.New(ctx, host, store, acme.WithDirectory(url), acme.WithZone("example.cloud"))
//
// What it gets, auth keeps sealed and gives to gateways.
//
// # For which names
//
// A name is ordered for while a deployment claims it in tns, no other project has it,
// and it was generated for the project or the project showed that it owns it. A user
// who asks a gateway for another name causes no order, nor does a domain whose
// configuration brings a certificate of its own ("inline").
//
// # Who orders
//
// Of the nodes that run this package, rendezvous hashing names one for each certificate.
// Before it orders it takes a lease from the arbiter, one node for all leases, which
// also holds the rates: so two nodes make one order. A node that dies loses its leases
// after the lease's time, and another orders. Leases and how they ended are replicated.
// The network has one account at the certificate authority. The arbiter makes it, at the
// first order, and keeps its key with auth's secrets, sealed; an external account is used
// for that alone.
//
// # How control of a name is shown
//
// HTTP-01 and TLS-ALPN-01: every gateway that is alive is told the answer before the
// authority is asked to look. DNS-01, the only one for wildcards: every seer is told the
// TXT record, for names under the cluster's zone and for hosts that delegate
// _acme-challenge.<host> to seer, by NS to it or by CNAME to _acme-challenge.<host>.<zone>
// (auth.DelegationOf). Where a host does not, which is looked up first, the authority is
// not asked and the error names the record to make. Or a DNS provider of lego makes it (WithDNSProvider). An attempt that fails is followed
// by one of the next method.
//
// # When
//
// A certificate is renewed in the window that the authority suggests (ARI, RFC 9773),
// which lies in the past for one that was revoked; without one when a third of its life
// is left, spread by name over a twentieth of its life. A failure is tried again after a minute,
// then two, four, up to a day; what serves goes on serving.
package acme
