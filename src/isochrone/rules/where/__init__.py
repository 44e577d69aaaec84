"""Where: sites for all services of a home cell, chosen together.

Sites j have room C_j (cores, memory, GPUs), a price p_sj for a replica of service s, a provider, a
metro, a network. Services s ask for least_s to most_s replicas that need c_s each. An audience
point i has a weight w_si (millionths) and an expected time t_sij on j, through the best gateway
that the law allows (``rules.expected``). Choose whole numbers n_sj of replicas to minimise

    sum over s of unit_s * points_s(n_s)

    points_s = sum_i A_si(nearest) + 6 % of sum_i A_si(second nearest)     missed, slow, backup
             + 100 * sum_j n_sj * p_sj / unit_s                            price
             + 20, 5, 5 for each pair on one provider, metro, network      failing together
             + 30 * (held_s - kept_s)                                      moving
             + 40,000 * (least_s - n_s)+ + 15,000 if all on one provider   limits that cannot be met

    A_sij    = w_si * (1,000 if late_sij > objective_s, + 50 * late_sij / objective_s)

subject to  sum_s n_sj * c_s <= C_j,   n_sj <= slots_sj (0 where excluded),
            sum_j n_sj * p_sj <= budget_s,   sum_j n_sj <= most_s,   gangs: least_s or none.

unit_s is the median price of s's replicas: points times unit is money, so that services are
comparable. Replicas that run and stay save their cost of moving. A service that is alone, or meets
nobody, gets what ``rules.placement`` would choose. Demand enters as ``least`` (``rules.scaling``
says how many replicas carry it); priorities are strict, the higher placed first.

Rules of this package: integers alone; the order of sites, services, points and gateways changes
nothing but the inputs' digest; equals are told apart by the seed. What it does not do: choose
machines inside a site (each cell's fit does), so that room that is split over machines may turn
out smaller than its sum; the cell says so, and the next decision has its new offers.
"""

from isochrone.rules.where.deciding import RULE, decide, replay
from isochrone.rules.where.margins import margins, winning_price

__all__ = ["RULE", "decide", "margins", "replay", "winning_price"]
