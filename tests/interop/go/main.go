// A go-libp2p peer as a program: calls come as lines of JSON on standard input, answers go out the same way.
//
// It is what an application would write: the published module with its defaults. Two ways to a reservation are there,
// because applications use both: client.Reserve, and AutoRelay with a given relay. It must never repair what goes wrong:
// a test decides what a failure means.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	echoProtocol = "/interop/echo/1.0.0"
	circuit      = "/p2p-circuit"
	wait         = 15 * time.Second
	longestLine  = 1 << 20
)

// program holds what lives from one call to the next. Calls come one after the other.
type program struct {
	holePunching bool
	host         host.Host
	echo         network.Stream
}

// argument has the fields of all calls; each call takes its own.
type argument struct {
	Listen     []string `json:"listen"`
	Relay      string   `json:"relay"`
	Address    string   `json:"address"`
	Peer       string   `json:"peer"`
	Connection string   `json:"connection"`
	Text       string   `json:"text"`
}

type limit struct {
	Seconds float64 `json:"seconds"`
	Bytes   uint64  `json:"bytes"`
}

type link struct {
	ID      string `json:"id"`
	Peer    string `json:"peer"`
	Address string `json:"address"`
	Limited bool   `json:"limited"`
	Limit   *limit `json:"limit"`
}

type voucher struct {
	Relay   string `json:"relay"`
	Peer    string `json:"peer"`
	Expires int64  `json:"expires"`
}

type reservation struct {
	Expires   int64    `json:"expires"`
	Addresses []string `json:"addresses"`
	Limit     *limit   `json:"limit"`
	Voucher   *voucher `json:"voucher"`
}

type started struct {
	Peer      string   `json:"peer"`
	Addresses []string `json:"addresses"`
}

func (p *program) call(ctx context.Context, name string, given argument) (any, error) {
	switch name {
	case "start":
		return p.start(ctx, given.Listen)
	case "startAutoRelay":
		return p.startAutoRelay(ctx, given.Relay)
	case "reserve":
		return p.reserve(ctx, given.Relay)
	case "awaitHolePunching":
		return nil, p.awaitHolePunching(ctx)
	case "dial":
		return p.dial(ctx, given.Address)
	case "hangUp":
		return nil, p.hangUp(given.Peer)
	case "connections":
		return p.links(), nil
	case "openEcho":
		return nil, p.openEcho(ctx, given.Connection)
	case "say":
		return p.say(given.Text)
	}
	return nil, fmt.Errorf("there is no call %s", name)
}

// open makes the host. It listens nowhere itself, which switches the relay transport off unless it is asked for.
func (p *program) open(options ...libp2p.Option) (err error) {
	if p.holePunching {
		options = append(options, libp2p.EnableHolePunching())
	}
	p.host, err = libp2p.New(append(options, libp2p.NoListenAddrs, libp2p.EnableRelay())...)
	if err != nil {
		return err
	}
	p.host.SetStreamHandler(echoProtocol, answerEcho)
	return nil
}

// start reserves at each RELAY/p2p-circuit of listen, and listens on the other addresses.
func (p *program) start(ctx context.Context, listen []string) (any, error) {
	if err := p.open(); err != nil {
		return nil, err
	}
	answer := started{Peer: p.host.ID().String(), Addresses: []string{}}
	for _, address := range listen {
		relay, isCircuit := strings.CutSuffix(address, circuit)
		if !isCircuit {
			if err := p.listen(address); err != nil {
				return nil, err
			}
			continue
		}
		if _, err := p.reserve(ctx, relay); err != nil {
			return nil, err
		}
		answer.Addresses = append(answer.Addresses, address+"/p2p/"+answer.Peer)
	}
	return answer, nil
}

// listen binds an address; what is dialled afterwards leaves from its port.
func (p *program) listen(text string) error {
	address, err := ma.NewMultiaddr(text)
	if err != nil {
		return err
	}
	return p.host.Network().Listen(address)
}

// awaitHolePunching returns once the host offers DCUtR, which it does when it knows a public address of its own.
func (p *program) awaitHolePunching(ctx context.Context) error {
	changes, err := p.host.EventBus().Subscribe(new(event.EvtLocalProtocolsUpdated))
	if err != nil {
		return err
	}
	defer changes.Close()
	for !slices.Contains(p.host.Mux().Protocols(), holepunch.Protocol) {
		select {
		case <-changes.Out():
		case <-ctx.Done():
			return fmt.Errorf("no public address: %w", ctx.Err())
		}
	}
	return nil
}

// startAutoRelay leaves reserving to the host, and returns once the host lists an address through the relay.
func (p *program) startAutoRelay(ctx context.Context, relay string) (any, error) {
	info, err := peer.AddrInfoFromString(relay)
	if err != nil {
		return nil, err
	}
	static := libp2p.EnableAutoRelayWithStaticRelays([]peer.AddrInfo{*info})
	if err := p.open(static, libp2p.ForceReachabilityPrivate()); err != nil {
		return nil, err
	}
	changes, err := p.host.EventBus().Subscribe(new(event.EvtLocalAddressesUpdated))
	if err != nil {
		return nil, err
	}
	defer changes.Close()
	for {
		if addresses := p.circuitAddresses(); len(addresses) > 0 {
			return started{Peer: p.host.ID().String(), Addresses: addresses}, nil
		}
		select {
		case <-changes.Out():
		case <-ctx.Done():
			return nil, fmt.Errorf("no circuit address: %w", ctx.Err())
		}
	}
}

func (p *program) circuitAddresses() []string {
	found := []string{}
	for _, address := range p.host.Addrs() {
		if strings.Contains(address.String(), circuit) {
			found = append(found, address.String()+"/p2p/"+p.host.ID().String())
		}
	}
	return found
}

// reserve asks for a reservation, or for its renewal.
func (p *program) reserve(ctx context.Context, relay string) (any, error) {
	info, err := peer.AddrInfoFromString(relay)
	if err != nil {
		return nil, err
	}
	if err := p.host.Connect(ctx, *info); err != nil {
		return nil, err
	}
	granted, err := client.Reserve(ctx, p.host, *info)
	if err != nil {
		return nil, err
	}
	answer := reservation{Expires: granted.Expiration.Unix(), Addresses: []string{}}
	for _, address := range granted.Addrs {
		answer.Addresses = append(answer.Addresses, address.String())
	}
	if granted.LimitDuration != 0 || granted.LimitData != 0 {
		answer.Limit = &limit{granted.LimitDuration.Seconds(), granted.LimitData}
	}
	if seen := granted.Voucher; seen != nil {
		answer.Voucher = &voucher{seen.Relay.String(), seen.Peer.String(), seen.Expiration.Unix()}
	}
	return answer, nil
}

func (p *program) dial(ctx context.Context, address string) (any, error) {
	info, err := peer.AddrInfoFromString(address)
	if err != nil {
		return nil, err
	}
	ctx = network.WithAllowLimitedConn(ctx, "interop")
	if err := p.host.Connect(ctx, *info); err != nil {
		return nil, err
	}
	through := strings.Contains(address, circuit)
	for _, conn := range p.host.Network().ConnsToPeer(info.ID) {
		if isCircuit(conn) == through {
			return described(conn), nil
		}
	}
	return nil, fmt.Errorf("no connection that %s asks for", address)
}

// hangUp closes every connection to a peer.
func (p *program) hangUp(text string) error {
	id, err := peer.Decode(text)
	if err != nil {
		return err
	}
	return p.host.Network().ClosePeer(id)
}

func (p *program) links() []link {
	links := []link{}
	for _, conn := range p.host.Network().Conns() {
		links = append(links, described(conn))
	}
	return links
}

// openEcho opens the echo stream. The host picks among the connections to a peer; it must have picked the asked one.
func (p *program) openEcho(ctx context.Context, id string) (err error) {
	for _, conn := range p.host.Network().Conns() {
		if conn.ID() != id {
			continue
		}
		ctx = network.WithAllowLimitedConn(ctx, "interop")
		p.echo, err = p.host.NewStream(ctx, conn.RemotePeer(), echoProtocol)
		if err == nil && p.echo.Conn().ID() != id {
			return fmt.Errorf("the stream went over %s instead", p.echo.Conn().RemoteMultiaddr())
		}
		return err
	}
	return fmt.Errorf("connection %s is gone", id)
}

func (p *program) say(text string) (any, error) {
	if p.echo == nil {
		return nil, fmt.Errorf("no echo stream is open")
	}
	if err := p.echo.SetDeadline(time.Now().Add(wait)); err != nil {
		return nil, err
	}
	if _, err := p.echo.Write([]byte(text)); err != nil {
		return nil, err
	}
	received := make([]byte, len(text))
	if n, err := io.ReadFull(p.echo, received); err != nil {
		return nil, fmt.Errorf("after %d of %d bytes: %w", n, len(text), err)
	}
	return string(received), nil
}

// answerEcho sends back what comes until the other side has ended its direction.
func answerEcho(stream network.Stream) {
	if _, err := io.Copy(stream, stream); err != nil {
		_ = stream.Reset()
		return
	}
	_ = stream.Close()
}

func isCircuit(conn network.Conn) bool {
	_, err := conn.RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}

func described(conn network.Conn) link {
	stat := conn.Stat()
	told := link{
		ID:      conn.ID(),
		Peer:    conn.RemotePeer().String(),
		Address: conn.RemoteMultiaddr().String(),
		Limited: stat.Limited,
	}
	duration, hasDuration := stat.Extra[client.StatLimitDuration].(time.Duration)
	data, hasData := stat.Extra[client.StatLimitData].(uint64)
	if hasDuration || hasData {
		told.Limit = &limit{duration.Seconds(), data}
	}
	return told
}

// answer runs one call; whatever error it returns is the answer.
func (p *program) answer(line []byte) map[string]any {
	var request struct {
		Call     string   `json:"call"`
		Argument argument `json:"argument"`
	}
	if err := json.Unmarshal(line, &request); err != nil {
		return map[string]any{"failure": err.Error()}
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	value, err := p.call(ctx, request.Call, request.Argument)
	if err != nil {
		return map[string]any{"failure": err.Error()}
	}
	return map[string]any{"value": value}
}

// main answers calls until standard input ends: with its test, however that ends, the program is gone.
func main() {
	p := &program{}
	flag.BoolVar(&p.holePunching, "hole-punching", false, "switch DCUtR on")
	flag.Parse()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longestLine)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		if err := answers.Encode(p.answer(lines.Bytes())); err != nil {
			os.Exit(1)
		}
	}
	if p.host != nil {
		_ = p.host.Close()
	}
}
