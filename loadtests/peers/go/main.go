// A go-libp2p relay for comparison: what its library does by default, with every limit out of the way.
//
// It prints its addresses, one a line, once it serves, and ends on SIGTERM. It must never do more than an operator
// would write: what is measured is the library.
package main

import (
	"fmt"
	"log"
	"math"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
)

// resources grants whatever is asked for. A Limit of nil means circuits without bounds.
func resources() relay.Resources {
	granted := relay.DefaultResources()
	granted.Limit = nil
	granted.ReservationTTL = time.Hour
	granted.MaxReservations = math.MaxInt32
	granted.MaxCircuits = math.MaxInt32
	granted.MaxReservationsPerIP = math.MaxInt32
	granted.MaxReservationsPerASN = math.MaxInt32
	return granted
}

func main() {
	host, err := libp2p.New(
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/tcp/0"),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.ConnectionManager(connmgr.NullConnMgr{}),
		libp2p.ForceReachabilityPublic(),
		libp2p.EnableRelayService(relay.WithResources(resources())),
	)
	if err != nil {
		log.Fatal(err)
	}
	for _, address := range host.Network().ListenAddresses() {
		fmt.Printf("%s/p2p/%s\n", address, host.ID())
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
	<-asked
	if err := host.Close(); err != nil {
		log.Fatal(err)
	}
}
