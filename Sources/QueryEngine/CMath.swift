#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

// The functions of the C library under names that cases such as `ScalarFunction.exp` do not hide.

func naturalLogarithm(_ x: Double) -> Double { log(x) }
func decimalLogarithm(_ x: Double) -> Double { log10(x) }
func exponential(_ x: Double) -> Double { exp(x) }
func raised(_ x: Double, to y: Double) -> Double { pow(x, y) }
func sine(_ x: Double) -> Double { sin(x) }
func cosine(_ x: Double) -> Double { cos(x) }
func arcsine(_ x: Double) -> Double { asin(x) }
func square(_ x: Double) -> Double { x * x }
