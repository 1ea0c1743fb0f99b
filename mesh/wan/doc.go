// Package wan is a wide-area network on one machine: a relay of UDP datagrams, in
// user space and without privilege, that stands between WireGuard endpoints and
// gives every directed pair of nodes its delay, jitter, loss, reordering,
// duplication, rate, datagram limit and cuts.
//
// Every unordered pair of nodes has two sockets: the one that node a sends to
// stands for b, and the other way round. So both ends see an ordinary peer at an
// ordinary address, and nothing in them knows about the relay.
//
// A Router does the same for hosts with a network of their own, such as network
// namespaces: it stands where the kernel routes what goes from one place to
// another, and passes on all that they say, not WireGuard alone.
//
// Conditions change at run time. Chance comes from a seed: the fate of the n-th
// datagram of a direction is the same in every run. All waiting datagrams stand
// in one heap of deadlines; there is no timer or goroutine per datagram.
package wan
