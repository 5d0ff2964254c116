package load

import (
	"context"
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// client asks one thing after the other on a connection. It is not safe for concurrent use.
type client struct {
	net.Conn
	answers *answers
}

// open connects; the connection is closed by the function that is returned, or when ctx ends.
func open(ctx context.Context, addr string) (*client, func(), error) {
	conn, closeConn, err := dial(ctx, addr)
	if err != nil {
		return nil, nil, err
	}
	return &client{conn, newAnswers(conn)}, closeConn, nil
}

// ask sends a request and reads the answer into resp.
func (c *client) ask(req kmsg.Request, resp kmsg.Response) error {
	if _, err := c.Write(frame(req)); err != nil {
		return err
	}
	body, err := c.answers.next(req.IsFlexible() && req.Key() != int16(kmsg.ApiVersions))
	if err != nil {
		return err
	}
	resp.SetVersion(req.GetVersion())
	return resp.ReadFrom(body)
}
