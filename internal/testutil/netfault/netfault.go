// Package netfault simulates network faults for tests.
package netfault

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A Proxy is a TCP proxy that can reset connections in the middle of a response.
type Proxy struct {
	// Address is the address at which the Proxy listens.
	Address string

	server string
	every  int64

	mu        sync.Mutex
	remaining int               // number of connections that are still to be reset
	cuts      int               // number of connections that have been reset
	conns     map[net.Conn]bool // open connections; nil after the end of the test
}

// NewProxy starts a Proxy that forwards connections to the server at address. The Proxy resets each
// of the first count connections when it has forwarded a certain number of response bytes on this
// connection. This number is the argument every. The Proxy stops at the end of the test.
func NewProxy(t testing.TB, address string, every int64, count int) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Address: l.Addr().String(), server: address, every: every, remaining: count, conns: map[net.Conn]bool{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for conn := range p.conns {
			_ = conn.Close()
		}
		p.conns = nil
		p.mu.Unlock()
		all.Wait()
	})
	return p
}

// Cuts returns the number of connections that have been reset.
func (p *Proxy) Cuts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

// Cut makes the Proxy reset the next count connections.
func (p *Proxy) Cut(count int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remaining = count
}

// add records an open connection. It returns false if the Proxy has been stopped.
func (p *Proxy) add(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		return false
	}
	p.conns[conn] = true
	return true
}

func (p *Proxy) remove(conn net.Conn) {
	p.mu.Lock()
	delete(p.conns, conn)
	p.mu.Unlock()
	_ = conn.Close()
}

func (p *Proxy) serve(client net.Conn) {
	if !p.add(client) {
		_ = client.Close()
		return
	}
	defer p.remove(client)
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	if !p.add(server) {
		_ = server.Close()
		return
	}
	defer p.remove(server)
	var asking sync.WaitGroup
	asking.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	if n, err := io.CopyN(client, server, p.every); n == p.every && err == nil {
		if p.takeCut() {
			if tcp, ok := client.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // makes Close reset the connection
			}
		} else {
			_, _ = io.Copy(client, server)
		}
	}
	_ = client.Close()
	asking.Wait()
}

func (p *Proxy) takeCut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.remaining == 0 {
		return false
	}
	p.remaining--
	p.cuts++
	return true
}
