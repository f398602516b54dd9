package jsclient

import (
	"crypto/sha256"
	"time"
)

// watch looks at the files of the configuration until the client is closed, and reconnects when one has changed. It
// looks at their content: a mounted Secret changes by a swapped symbolic link, which file notifications miss easily.
func (c *Client) watch() {
	ticker := time.NewTicker(c.opts.FileInterval)
	defer ticker.Stop()
	w := fileWatch{cfg: c.cfg}
	w.last, _ = fingerprint(c.cfg)
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := w.look()
		if err != nil {
			c.log.Error(err, "Changed NATS credentials cannot be used, keeping the connection as it is")
		}
		if changed {
			c.takeUpFiles()
		}
		c.retryDenied()
	}
}

func (c *Client) takeUpFiles() {
	_ = c.secrets.note(nil)
	c.log.Info("The files of the NATS connection changed, reconnecting")
	if err := c.link.Load().nc.ForceReconnect(); err != nil {
		c.log.Error(err, "Could not reconnect to NATS")
	}
}

// fileWatch compares files with what they were.
type fileWatch struct {
	cfg      Config
	last     [sha256.Size]byte
	reported string
}

// look reports whether the files have changed and can be used. Files that cannot be used are no reason to give up a
// connection that works: a certificate may have been written whose key is to follow. They are reported once.
func (w *fileWatch) look() (changed bool, err error) {
	now, err := fingerprint(w.cfg)
	if err == nil && now == w.last {
		w.reported = ""
		return false, nil
	}
	if err == nil {
		err = checkFiles(w.cfg)
	}
	if err != nil {
		if err.Error() == w.reported {
			return false, nil
		}
		w.reported = err.Error()
		return false, err
	}
	w.last, w.reported = now, ""
	return true, nil
}
