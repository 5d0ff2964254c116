//go:build plant

package chaos_test

import "github.com/ottlaio/ottla/internal/plant"

func init() {
	buildFlags = append(buildFlags, "-tags", "plant")
	brokerEnv = append(brokerEnv, "OTTLA_PLANT="+string(plant.Planted()))
}
