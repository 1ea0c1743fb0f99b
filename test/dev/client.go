package dev

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/tidwall/resp"
)

// doWithin bounds a command of a Client.
const doWithin = 20 * time.Second

// Client sends one command after the other over a connection.
type Client struct {
	Conn net.Conn
	r    *resp.Reader
}

// Reply is an error reply of the server; the connection goes on.
type Reply string

func (r Reply) Error() string { return string(r) }

// NewClient authenticates on a connection, with no password if it is empty, and closes the connection if that fails.
func NewClient(conn net.Conn, password string) (*Client, error) {
	c := &Client{Conn: conn, r: resp.NewReader(conn)}
	if password == "" {
		return c, nil
	}
	if _, err := c.Do("AUTH", password); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.Conn.Close() }

// Do sends a command and gives its reply as text. Error replies are of type Reply; other errors are the connection's.
func (c *Client) Do(args ...string) (string, error) { return c.DoWithin(doWithin, args...) }

// DoWithin is Do with another time limit.
func (c *Client) DoWithin(limit time.Duration, args ...string) (string, error) {
	v, err := c.ask(limit, args)
	switch {
	case err != nil:
		return "", err
	case v.IsNull():
		return "(nil)", nil
	}
	return v.String(), nil
}

// Values sends a command whose reply is an array, and gives what is in it, also in arrays in it. Null is "".
func (c *Client) Values(args ...string) ([]string, error) {
	v, err := c.ask(doWithin, args)
	var all []string
	var add func(v resp.Value)
	add = func(v resp.Value) {
		switch {
		case v.Type() == resp.Array:
			for _, e := range v.Array() {
				add(e)
			}
		case v.IsNull():
			all = append(all, "")
		default:
			all = append(all, v.String())
		}
	}
	add(v)
	return all, err
}

func (c *Client) ask(limit time.Duration, args []string) (v resp.Value, err error) {
	if err := c.Conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return v, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(c.Conn, b.String()); err != nil {
		return v, err
	}
	v, _, err = c.r.ReadValue()
	if err == nil && v.Type() == resp.Error {
		err = Reply(v.Error().Error())
	}
	return v, err
}
