//go:build plant

package hostile_test

import (
	"time"

	"github.com/ottlaio/ottla/internal/plant"
)

func init() {
	brokerEnv = append(brokerEnv, "OTTLA_PLANT="+string(plant.Planted()))
	if plant.Planted() != "" {
		patience = 4 * time.Second // most bugs show in what does not happen
	}
}
