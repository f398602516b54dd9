package controller

import "github.com/osapi-io/auditstream-operator/internal/jsclient"

// follow has writes to the bucket wake the resource, and says whether they did not before.
func (c *copies) follow(id copyID, nats *jsclient.Client) (fresh bool, err error) {
	c.mu.Lock()
	followed := c.follows[id] != nil
	c.mu.Unlock()
	if followed {
		return false, nil
	}
	// It asks the server, which may take a while. Reconciles of one resource never overlap.
	stop, err := nats.FollowBucket(id.bucket)
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.follows[id] = stop
	return true, nil
}

// unfollow ends what follow has begun.
func (c *copies) unfollow(id copyID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if stop := c.follows[id]; stop != nil {
		stop()
		delete(c.follows, id)
	}
}
