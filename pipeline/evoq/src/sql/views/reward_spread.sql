SELECT run, round, workflow_step, variant, update_index, image_id,
       count(*) AS completions,
       count(score) AS valid,
       avg(reward) AS reward_mean,
       stddev(reward) AS reward_spread,
       min(reward) AS reward_min,
       max(reward) AS reward_max,
       max(reward) = min(reward) AS zero_spread,
       avg(score) AS score_mean,
       stddev(score) AS score_spread
FROM rollouts
GROUP BY run, round, workflow_step, variant, update_index, image_id
