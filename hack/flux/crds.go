// Package flux pins Flux: the controllers as tools, and the types that the CRDs of notification-controller are generated
// from, which come as source only.
package flux

import _ "github.com/fluxcd/notification-controller/api/v1beta3"
